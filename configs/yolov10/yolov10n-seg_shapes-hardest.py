# As yolov10n-seg_shapes-hard.py, on Shapes `hardest`: the maps of docs/results.md were measured by this.
_base_ = ["./yolov10n-seg_shapes-hard.py"]
hardest = dict(data_root="data/shapes/hardest", spec=dict(preset="hardest"))
train_dataloader = dict(batch_size=16, dataset=hardest)
val_dataloader = dict(dataset=hardest)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="data/shapes/hardest/annotations/val.json")
test_evaluator = val_evaluator
model = dict(bbox_head=dict(losses=dict(loss_cls=dict(loss_weight=0.5))))

max_iters = 1000
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=max_iters, eta_min=2e-5),
]
train_cfg = dict(max_iters=max_iters, val_interval=250)
