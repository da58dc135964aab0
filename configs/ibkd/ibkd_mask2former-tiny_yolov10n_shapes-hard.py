# The small student on Shapes `hard`, distilled from the shipped teacher.
_base_ = [
    "../yolov10/yolov10n-seg_shapes-hard.py",
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
# AP of the student alone after 2,000 iterations: a teacher that is no better gives a warning
default_hooks = dict(
    _base_.distillation_hooks, teacher_check=dict(_base_.distillation_hooks.teacher_check, baseline=0.45)
)
teacher_cache = dict(path="data/shapes/hard/mask2former_tiny.sqlite")
