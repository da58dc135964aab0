# Instances alone, without the loss of feature maps.
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard.py"
losses = dict(loss_cfb=dict(loss_weight=0.0), loss_instance=dict(loss_weight=0.1))
model = dict(distiller=dict(distill_losses=losses))
