# As yolov10n-seg_shapes-hard.py, on Shapes `easy`, with half the steps.
_base_ = ["./yolov10n-seg_shapes-hard.py"]
easy = dict(data_root="data/shapes/easy", spec=dict(preset="easy"))
train_dataloader = dict(dataset=easy)
val_dataloader = dict(dataset=easy)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="data/shapes/easy/annotations/val.json")
test_evaluator = val_evaluator

max_iters = 1000
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=max_iters, eta_min=2e-5),
]
train_cfg = dict(max_iters=max_iters)
