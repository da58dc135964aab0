# PASCAL VOC at 512x512. For the files, see voc_instance.py.
_base_ = ["./mosaic.py", "./voc_instance.py"]
size = (512, 512)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        dataset=dict(**_base_.voc_train, pipeline=[_base_.read, _base_.annotate]),
        pipeline=[dict(size=size, **_base_.mosaic), _base_.finish],
    ),
)
resize = dict(type="Resize", scale=size, keep_ratio=True)
val_dataloader = dict(
    dataset=dict(**_base_.voc_val, pipeline=[_base_.read, resize, _base_.annotate, _base_.pack])
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = _base_.voc_metric
