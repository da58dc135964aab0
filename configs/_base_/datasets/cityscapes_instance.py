# Cityscapes instances in COCO format, as mmdet's tools/dataset_converters/cityscapes.py writes them:
#   data/cityscapes/leftImg8bit/{train,val}/<city>/*.png
#   data/cityscapes/annotations/instancesonly_filtered_gtFine_{train,val}.json
# Only datasets, without pipelines and loaders, which each method adds. The prefix avoids keys of the upstream
# base that a config also inherits (mmengine refuses bases that share a key).
cityscapes_data = dict(type="CityscapesDataset", data_root="data/cityscapes/")
cityscapes_train = dict(
    ann_file="annotations/instancesonly_filtered_gtFine_train.json",
    data_prefix=dict(img="leftImg8bit/train/"),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    **cityscapes_data,
)
cityscapes_val = dict(
    ann_file="annotations/instancesonly_filtered_gtFine_val.json",
    data_prefix=dict(img="leftImg8bit/val/"),
    test_mode=True,
    **cityscapes_data,
)
# COCO's AP. The benchmark's own AP differs slightly and needs one more package: add CityScapesMetric for it.
cityscapes_metric = dict(
    type="CocoMetric",
    ann_file="data/cityscapes/annotations/instancesonly_filtered_gtFine_val.json",
    metric=["bbox", "segm"],
)
