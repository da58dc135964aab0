# As mask_rcnn_r50_fpn_3x_coco.py, with ResNet-101.
_base_ = ["mmdet::mask_rcnn/mask-rcnn_r101_fpn_ms-poly-3x_coco.py", "../_base_/default_runtime.py"]

# `torchvision://resnet101` is this file, but mmengine needs torchvision to resolve that.
weights = "https://download.pytorch.org/models/resnet101-63fe2227.pth"
model = dict(backbone=dict(init_cfg=dict(checkpoint=weights)))
