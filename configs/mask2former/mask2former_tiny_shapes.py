# The small teacher, for Shapes `hard`. README.md beside this file: its shipped weights and how they were made.
_base_ = ["../_base_/models/mask2former_tiny.py"]
custom_imports = dict(imports=["ibkd_mm"], allow_failed_imports=False)

# Drawn by the same seed as `_base_/datasets/shapes_instance.py`, whose 2,000 training pictures are the first of these
# and whose validation pictures are the same.
data_root = "data/shapes/hard-16k"
spec = dict(preset="hard", train=16000, val=300, size=160, seed=0)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"]),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(160, 160), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
dataset = dict(_delete_=True, type="ibkd_mm.ShapesDataset", data_root=data_root, spec=spec)
train_dataloader = dict(batch_size=8, dataset=dict(**dataset, split="train", pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8, dataset=dict(**dataset, split="val", test_mode=True, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "/annotations/val.json")
test_evaluator = val_evaluator

# Small and briefly trained, it wants a higher learning rate than upstream's, in the backbone too.
max_iters, interval = 7000, 1000
optim_wrapper = dict(
    optimizer=dict(lr=4e-4), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0, decay_mult=1.0)))
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=300),
    dict(type="LinearLR", start_factor=1.0, end_factor=0.01, by_epoch=False, begin=5000, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=interval, dynamic_intervals=None)
default_hooks = dict(checkpoint=dict(interval=500))
