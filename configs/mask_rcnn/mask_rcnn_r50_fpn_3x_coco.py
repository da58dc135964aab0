# Short side 640 to 800 at random, polygon masks. An epoch sees every image three times, so that 12 epochs
# are 36; learning rate divided by 10 after epochs 9 and 11 (27 and 33 of 36).
_base_ = ["mmdet::mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py", "../_base_/default_runtime.py"]

# `torchvision://resnet50` is this file, but mmengine needs torchvision to know that.
weights = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
model = dict(backbone=dict(init_cfg=dict(checkpoint=weights)))
