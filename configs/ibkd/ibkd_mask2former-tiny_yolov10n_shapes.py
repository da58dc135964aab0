# The small student on Shapes `easy`, distilled from the shipped teacher.
_base_ = [
    "../yolov10/yolov10n-seg_shapes.py",
    "../_base_/distillers/mask2former_yolov10.py",
]
model = dict(
    _delete_=True,
    type="ibkd_mm.FrozenTeacherDistill",
    architecture=_base_.model,
    distiller=_base_.distiller,
    teacher="ibkd_mm::mask2former/mask2former_tiny_shapes.py",
    teacher_ckpt="ibkd_mm::mask2former_tiny_shapes.safetensors",
)
default_hooks = _base_.distillation_hooks
