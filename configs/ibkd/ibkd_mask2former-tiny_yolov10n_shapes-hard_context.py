# Feature maps and instances, with a weight for each image: its complexity and the teacher's confidence.
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard_cfb-instance.py"
weighting = dict(type="ibkd_mm.ContextWeights")
model = dict(distiller=dict(distill_losses=dict(loss_instance=dict(weighting=weighting))))
