_base_ = [
    "../_base_/models/yolov10x_seg.py",
    "../_base_/datasets/coco_mosaic.py",
    "../_base_/schedules/yolov10_500e.py",
    "mmdet::_base_/default_runtime.py",
    "../_base_/default_runtime.py",
]
