# The small teacher for one class with many small instances, 100 queries. It starts from the shipped weights
# for Shapes, except the classifier and the queries. 180 epochs of 444 images; the schedule is ours.
_base_ = [
    "../_base_/models/mask2former_tiny.py",
    "../_base_/default_runtime.py",
    "../_base_/datasets/nuclei_instance.py",
]
queries, size, max_iters = 100, (512, 512), 10000
model = dict(
    panoptic_head=dict(num_queries=queries, num_things_classes=1, loss_cls=dict(class_weight=[1.0, 0.1])),
    panoptic_fusion_head=dict(num_things_classes=1),
    test_cfg=dict(max_per_image=queries),
)
read, pack = _base_.test_pipeline[0], _base_.test_pipeline[-1]
annotate = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
train_pipeline = [
    read,
    annotate,
    dict(type="RandomFlip", prob=[0.25] * 3, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="RandomResize", scale=size, ratio_range=(0.5, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=size, recompute_bbox=True, allow_negative_crop=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [read, dict(type="Resize", scale=size, keep_ratio=True), annotate, pack]
train_dataloader = dict(
    batch_size=8, dataset=dict(_delete_=True, **_base_.nuclei_train, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(_delete_=True, **_base_.nuclei_val, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(_delete_=True, **_base_.nuclei_metric)

optim_wrapper = dict(
    optimizer=dict(lr=4e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0, decay_mult=1.0))),
)
param_scheduler = dict(end=max_iters, milestones=[8900, 9600])
train_cfg = dict(max_iters=max_iters, val_interval=1000, dynamic_intervals=None)
default_hooks = dict(checkpoint=dict(interval=1000))
load_from = "ibkd_mm::mask2former_tiny_shapes.safetensors"
