# Loaders and metric for Shapes `hard`.
_base_ = "./shapes.py"

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=_base_.shapes_train,
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=_base_.shapes_val,
)
test_dataloader = val_dataloader
val_evaluator = _base_.shapes_metric
test_evaluator = val_evaluator
