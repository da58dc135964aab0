# COCO instances at 640x640.
_base_ = "./mosaic.py"
size = (640, 640)
coco = dict(type="CocoDataset", data_root="data/coco/")
coco_train = dict(
    **coco,
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img="train2017/"),
    filter_cfg=dict(filter_empty_gt=False),  # empty images are background examples
    pipeline=[_base_.read, _base_.annotate],
)
train_dataloader = dict(
    dataset=dict(dataset=coco_train, pipeline=[dict(size=size, **_base_.mosaic), _base_.finish])
)
val_dataloader = dict(
    dataset=dict(
        **coco,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=[
            _base_.read,
            dict(type="Resize", scale=size, keep_ratio=True),
            _base_.annotate,
            _base_.pack,
        ],
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="CocoMetric", ann_file="data/coco/annotations/instances_val2017.json", metric=["bbox", "segm"]
)
test_evaluator = val_evaluator
