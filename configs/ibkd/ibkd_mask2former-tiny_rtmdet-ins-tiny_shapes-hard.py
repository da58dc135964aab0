# Another student, to which only feature maps are distilled.
_base_ = ["../rtmdet/rtmdet-ins_tiny_shapes.py", "../_base_/distillers/features.py"]
# the teacher takes sides that divide by 32
divisible = dict(_base_.model.data_preprocessor, pad_size_divisor=32)
model = dict(
    _delete_=True,
    type="ibkd_mm.FrozenTeacherDistill",
    architecture=dict(_base_.model, data_preprocessor=divisible),
    distiller=_base_.distiller,
    teacher="ibkd_mm::mask2former/mask2former_tiny_shapes.py",
    teacher_ckpt="ibkd_mm::mask2former_tiny_shapes.safetensors",
)
# the same average, of what is trained: EMAHook would copy the teacher too
custom_hooks = [dict(type="ibkd_mm.StudentEMAHook", decay=0.998, warmup=2000)]
default_hooks = _base_.distillation_hooks
