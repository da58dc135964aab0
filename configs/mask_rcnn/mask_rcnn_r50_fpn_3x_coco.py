# Random short side from 640 to 800, polygon masks. An epoch uses every image three times, so 12 epochs
# are 36; the learning rate is divided by 10 after epochs 9 and 11 (27 and 33 of 36).
_base_ = ["mmdet::mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py", "../_base_/default_runtime.py"]

# `torchvision://resnet50` is this file, but mmengine needs torchvision to resolve that.
weights = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
model = dict(backbone=dict(init_cfg=dict(checkpoint=weights)))
