# Semantic segmentation: logits of a DeepLabV3+ R50 (80.09 mIoU, as released) to those of one on MobileNetV2,
# channel by channel (CWD, https://arxiv.org/abs/2011.13256, with its settings for logits). The student by
# itself is the base. Both are trained on Cityscapes, whose terms forbid commercial use.
_base_ = [
    "mmseg::mobilenet_v2/mobilenet-v2-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024.py",
    "../_base_/default_runtime.py",
]
logits = dict(type="ModuleOutputs", source="decode_head.conv_seg")
model = dict(
    _delete_=True,
    type="ibkd_mm.FrozenTeacherDistill",
    architecture=_base_.model,
    distiller=dict(
        type="ibkd_mm.CheckedDistiller",
        student_recorders=dict(logits=logits),
        teacher_recorders=dict(logits=logits),
        distill_losses=dict(loss_cwd=dict(type="mmrazor.ChannelWiseDivergence", tau=1.0, loss_weight=5.0)),
        loss_forward_mappings=dict(
            loss_cwd=dict(
                preds_S=dict(recorder="logits", from_student=True),
                preds_T=dict(recorder="logits", from_student=False),
            )
        ),
    ),
    teacher="mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb2-80k_cityscapes-512x1024.py",
    teacher_ckpt=(
        "https://download.openmmlab.com/mmsegmentation/v0.5/deeplabv3plus/deeplabv3plus_r50-d8_512x1024_80k_cityscapes/"
        "deeplabv3plus_r50-d8_512x1024_80k_cityscapes_20200606_114049-f9fb496d.pth"
    ),
)
check = dict(type="ibkd_mm.TeacherCheckHook", images=50, metric="mIoU", min_score=40)
default_hooks = dict(teacher_check=check)
