# Maps and instances, each picture weighed by how complex it is and how far the teacher is trusted there.
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard_cfb-instance.py"
weighting = dict(type="ibkd_mm.ContextWeights")
model = dict(distiller=dict(distill_losses=dict(loss_instance=dict(weighting=weighting))))
