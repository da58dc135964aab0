# The student alone on the settings published with IBKD: 640x640, batch 8, 50 epochs of Adam at a constant
# 1e-4 without decay. Augmentation and averaged weights, which they leave open, are the student's own.
# So few steps so small only make sense as fine-tuning, from a detector that you have:
#   --cfg-options load_from=PATH
_base_ = "../yolov10/yolov10n-seg_coco.py"
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(_delete_=True, type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4))
param_scheduler = []
train_cfg = dict(max_epochs=50)
auto_scale_lr = dict(base_batch_size=8)
