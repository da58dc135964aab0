# Cityscapes at 1024x512, half the size of its images. For the files, see cityscapes_instance.py.
# Each sample reads four images of 2048x1024: use many workers for a GPU, or shrink the images beforehand.
_base_ = ["./mosaic.py", "./cityscapes_instance.py"]
size = (1024, 512)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        dataset=dict(**_base_.cityscapes_train, pipeline=[_base_.read, _base_.annotate]),
        pipeline=[dict(size=size, **_base_.mosaic), _base_.finish],
    ),
)
resize = dict(type="Resize", scale=size, keep_ratio=True)
val_dataloader = dict(
    dataset=dict(**_base_.cityscapes_val, pipeline=[_base_.read, resize, _base_.annotate, _base_.pack])
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = _base_.cityscapes_metric
