# The student alone on the settings published with IBKD: 512x512, batch 16, 30 epochs of Adam at a constant
# 5e-5 without decay. Augmentation and averaged weights, which they leave open, are the student's own.
# So few steps so small only make sense as fine-tuning, from a detector that you have:
#   --cfg-options load_from=PATH
_base_ = "../yolov10/yolov10n-seg_voc.py"
train_dataloader = dict(batch_size=16)
optim_wrapper = dict(_delete_=True, type="OptimWrapper", optimizer=dict(type="Adam", lr=5e-5))
param_scheduler = []
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=16)
