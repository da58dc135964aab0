# Nuclei in microscopy (2018 Data Science Bowl), or any COCO-format data of one class with many small objects:
#   data/nuclei/images/*.png
#   data/nuclei/instances_{train,val}.json
# Other data: set data_root, and metainfo.classes to the category's name as it stands in the files.
# Data sets only, no pipelines and no loaders: each method brings its own.
nuclei_data = dict(
    type="CocoDataset",
    data_root="data/nuclei/",
    data_prefix=dict(img="images/"),
    metainfo=dict(classes=("nucleus",)),
)
nuclei_train = dict(**nuclei_data, ann_file="instances_train.json", filter_cfg=dict(filter_empty_gt=False))
nuclei_val = dict(**nuclei_data, ann_file="instances_val.json", test_mode=True)
# Its mAP counts all that are found in a picture; CocoMetric's stops at a hundred.
nuclei_metric = dict(
    type="FasterCocoMetric",
    ann_file="data/nuclei/instances_val.json",
    metric=["bbox", "segm"],
    proposal_nums=(1, 100, 300),
)
