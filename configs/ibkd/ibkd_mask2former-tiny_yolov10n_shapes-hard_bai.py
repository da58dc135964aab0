# With Bifocal Attention Integration: feature maps of both are fused, compared once more where the fused ones
# attend, and the student's head learns on them too, less and less towards the end. A fixed share for all
# positions, the published form, instead of a learnt one:
#   --cfg-options model.distiller.distill_losses.loss_cfb.alpha=0.5
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard.py"
weights = dict(attention=dict(loss_weight=6.0), auxiliary=dict(share=0.5, loss_weight=0.5))
bai = dict(loss_cfb=dict(type="ibkd_mm.BifocalFeatureLoss", **weights))
step = dict(loss_cfb=dict(step=dict(recorder="one_to_many", from_student=True)))
model = dict(distiller=dict(distill_losses=bai, loss_forward_mappings=step))
default_hooks = dict(distill_schedule=dict(schedules=dict(loss_auxiliary=dict(warmup=100, decay=0))))
