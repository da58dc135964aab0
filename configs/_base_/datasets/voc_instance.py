# PASCAL VOC with the instance masks of SBD (Hariharan et al. 2011; 8,498 training and 2,857 test images).
# SBD is not published in COCO format; by our convention the converted files are
#   data/voc/JPEGImages/*.jpg
#   data/voc/annotations/instances_{train,val}.json
# Only datasets, without pipelines and loaders, which each method adds. The prefix avoids keys of the upstream
# base that a config also inherits (mmengine refuses bases that share a key).
voc_data = dict(
    type="CocoDataset",
    data_root="data/voc/",
    data_prefix=dict(img="JPEGImages/"),
    metainfo=dict(
        classes=(
            *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
            *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
            "tvmonitor",
        )
    ),
)
voc_train = dict(
    ann_file="annotations/instances_train.json", filter_cfg=dict(filter_empty_gt=True), **voc_data
)
voc_val = dict(ann_file="annotations/instances_val.json", test_mode=True, **voc_data)
voc_metric = dict(
    type="CocoMetric", ann_file="data/voc/annotations/instances_val.json", metric=["bbox", "segm"]
)
