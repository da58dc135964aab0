_base_ = ["mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py", "../_base_/default_runtime.py"]

# `load_from` contains all weights, so the backbone downloads none.
model = dict(backbone=dict(init_cfg=None))

# Box AP 45.7, mask AP 42.9 on val2017. The weights are CC-BY-NC 4.0: not for commercial use.
load_from = (
    "https://download.openmmlab.com/mmdetection/v3.0/mask2former/mask2former_r50_8xb2-lsj-50e_coco/"
    "mask2former_r50_8xb2-lsj-50e_coco_20220506_191028-41b088b6.pth"
)
