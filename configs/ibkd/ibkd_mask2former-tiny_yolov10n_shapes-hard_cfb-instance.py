# Feature maps and instances.
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard.py"
model = dict(distiller=dict(distill_losses=dict(loss_instance=dict(loss_weight=0.1))))
