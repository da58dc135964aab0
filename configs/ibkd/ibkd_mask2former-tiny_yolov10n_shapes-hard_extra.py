# Confident predictions of the teacher that no annotation overlaps are added to the ground truth.
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard.py"
whole = dict(recorder="whole", from_student=False, connector="instances")
model = dict(distiller=dict(extra_targets=dict(type="ibkd_mm.ExtraTargets", score_thr=0.5, teacher=whole)))
cells = dict(type="ibkd_mm.MaskCells", stride=4)
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_dataloader.dataset.pipeline, cells]))
