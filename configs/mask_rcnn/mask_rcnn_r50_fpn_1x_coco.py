# Fixed scale (1333, 800), 12 epochs, learning rate divided by 10 after epochs 8 and 11.
_base_ = ["mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", "../_base_/default_runtime.py"]

# `torchvision://resnet50` is this file, but mmengine needs torchvision to resolve that.
weights = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
model = dict(backbone=dict(init_cfg=dict(checkpoint=weights)))
