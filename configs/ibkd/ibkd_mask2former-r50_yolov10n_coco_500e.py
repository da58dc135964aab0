# The student's own recipe of 500 epochs, distilled from Mask2Former R50.
# The teacher's weights come by its config's load_from, a URL; CC-BY-NC 4.0: not for commercial use.
_base_ = ["../yolov10/yolov10n-seg_coco.py", "../_base_/distillers/mask2former_yolov10.py"]
model = dict(
    _delete_=True,
    type="ibkd_mm.FrozenTeacherDistill",
    architecture=_base_.model,
    distiller=_base_.distiller,
    teacher="ibkd_mm::mask2former/mask2former_r50_coco.py",
)
default_hooks = _base_.distillation_hooks
