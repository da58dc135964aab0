# Another student, whose feature maps alone are distilled, those of stride 4 too.
# The teacher's weights come by its config's load_from, a URL; CC-BY-NC 4.0: not for commercial use.
_base_ = ["../mask_rcnn/mask_rcnn_r50_fpn_1x_coco.py", "../_base_/distillers/features.py"]
levels = dict(student_levels=[1, 2, 3, 0], teacher_levels=[3, 2, 1, 0])
distiller = dict(distill_losses=dict(loss_cfb=levels))
model = dict(
    _delete_=True,
    type="ibkd_mm.FrozenTeacherDistill",
    architecture=_base_.model,
    distiller=_base_.distiller,
    teacher="ibkd_mm::mask2former/mask2former_r50_coco.py",
)
default_hooks = _base_.distillation_hooks
