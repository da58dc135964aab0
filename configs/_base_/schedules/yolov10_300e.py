# For smaller datasets: 300 epochs with 64 images in a step; at the same decay, four times as many steps.
_base_ = "./yolov10_500e.py"
batch, max_epochs = 64, 300
optim_wrapper = dict(optimizer=dict(lr=0.01 * batch), clip_grad=dict(max_norm=10 / batch))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
    dict(type="LinearLR", start_factor=1.0, end_factor=0.01, by_epoch=True, begin=0, end=max_epochs),
]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch)
