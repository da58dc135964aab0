# Maps alone: what the teacher's instances say is left out.
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard.py"
model = dict(distiller=dict(distill_losses=dict(loss_instance=dict(loss_weight=0.0))))
