# As mask2former_r50_voc.py, with Swin-T.
_base_ = ["./mask2former_r50_voc.py", "../_base_/models/swin_t.py"]

model = dict(backbone=_base_.swin_t, panoptic_head=dict(in_channels=_base_.swin_t_channels))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.swin_t_norms))

# The weights are CC-BY-NC 4.0: not for commercial use.
load_from = (
    "https://download.openmmlab.com/mmdetection/v3.0/mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco/"
    "mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco_20220508_091649-01b0f990.pth"
)
