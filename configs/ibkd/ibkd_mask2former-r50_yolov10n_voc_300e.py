# The student's own recipe of 300 epochs, distilled from Mask2Former R50.
# The released weights have COCO's classes, so fine-tune a teacher first:
#   ibkd train configs/mask2former/mask2former_r50_voc.py
_base_ = ["../yolov10/yolov10n-seg_voc.py", "../_base_/distillers/mask2former_yolov10.py"]
model = dict(
    _delete_=True,
    type="ibkd_mm.FrozenTeacherDistill",
    architecture=_base_.model,
    distiller=_base_.distiller,
    teacher="ibkd_mm::mask2former/mask2former_r50_voc.py",
    teacher_ckpt="work_dirs/mask2former_r50_voc/iter_16000.pth",
)
default_hooks = _base_.distillation_hooks
