_base_ = [
    "../_base_/models/yolov10n_seg.py",
    "../_base_/datasets/voc_mosaic.py",
    "../_base_/schedules/yolov10_300e.py",
    "mmdet::_base_/default_runtime.py",
    "../_base_/default_runtime.py",
]
model = dict(bbox_head=dict(num_classes=20))
