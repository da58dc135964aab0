# Nuclei, or any COCO-format data of one class with many small objects; paths as in yolov10n-seg_nuclei.py, by
# --cfg-options. Train the teacher on the same data first:
#   ibkd train configs/mask2former/mask2former_tiny_nuclei.py
_base_ = ["../yolov10/yolov10n-seg_nuclei.py", "../_base_/distillers/mask2former_yolov10.py"]
model = dict(
    _delete_=True,
    type="ibkd_mm.FrozenTeacherDistill",
    architecture=_base_.model,
    distiller=_base_.distiller,
    teacher="ibkd_mm::mask2former/mask2former_tiny_nuclei.py",
    teacher_ckpt="work_dirs/mask2former_tiny_nuclei/iter_10000.pth",
)
default_hooks = _base_.distillation_hooks
