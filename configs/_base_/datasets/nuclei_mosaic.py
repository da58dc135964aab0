# Nuclei in microscopy (2018 Data Science Bowl), or any COCO-format data of one class with many small objects:
#   data/nuclei/images/*.png
#   data/nuclei/instances_{train,val}.json
# Other data: set data_root, and metainfo.classes to the category's name as it stands in the files.
_base_ = "./mosaic.py"
size = (512, 512)
nuclei = dict(
    type="CocoDataset",
    data_root="data/nuclei/",
    data_prefix=dict(img="images/"),
    metainfo=dict(classes=("nucleus",)),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    dataset=dict(
        dataset=dict(
            **nuclei,
            ann_file="instances_train.json",
            filter_cfg=dict(filter_empty_gt=False),
            pipeline=[_base_.read, _base_.annotate],
        ),
        pipeline=[dict(size=size, **_base_.mosaic), _base_.finish],
    ),
)
resize = dict(type="Resize", scale=size, keep_ratio=True)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        **nuclei,
        ann_file="instances_val.json",
        test_mode=True,
        pipeline=[_base_.read, resize, _base_.annotate, _base_.pack],
    ),
)
test_dataloader = val_dataloader
# Its mAP counts all that are found in a picture; CocoMetric's stops at a hundred.
val_evaluator = dict(
    type="FasterCocoMetric",
    ann_file="data/nuclei/instances_val.json",
    metric=["bbox", "segm"],
    proposal_nums=(1, 100, 300),
)
test_evaluator = val_evaluator
