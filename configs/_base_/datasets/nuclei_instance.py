# Nuclei in microscopy (2018 Data Science Bowl), or any COCO-format data of one class with many small objects:
#   data/nuclei/images/*.png
#   data/nuclei/instances_{train,val}.json
# For other data set data_root, and set metainfo.classes to the name of the category in the annotation files.
# Only datasets, without pipelines and loaders, which each method adds.
nuclei_data = dict(
    type="CocoDataset",
    data_root="data/nuclei/",
    data_prefix=dict(img="images/"),
    metainfo=dict(classes=("nucleus",)),
)
nuclei_train = dict(**nuclei_data, ann_file="instances_train.json", filter_cfg=dict(filter_empty_gt=False))
nuclei_val = dict(**nuclei_data, ann_file="instances_val.json", test_mode=True)
# Its mAP counts up to 300 predictions in an image; CocoMetric's counts up to 100.
nuclei_metric = dict(
    type="FasterCocoMetric",
    ann_file="data/nuclei/instances_val.json",
    metric=["bbox", "segm"],
    proposal_nums=(1, 100, 300),
)
