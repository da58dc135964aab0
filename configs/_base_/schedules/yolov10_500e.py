# The published training of YOLOv10: 500 epochs of SGD, 256 pictures a step, the rate falling linearly.
# There a loss is multiplied by the pictures of a step. Here it is their mean, so the rate is multiplied, and
# what stands beside the gradient, decay and clipping, is divided: the steps are the same.
# On fewer GPUs than 8 of 32 pictures gradients are gathered over several batches, on one with
#   --cfg-options optim_wrapper.accumulative_counts=8
# Nothing else changes: epochs, warm-up and decay count pictures, clipping and averaged weights count steps.
# `--auto-scale-lr` takes smaller steps instead, so not both: the rate falls with the pictures of a step, and
# clipping stays as it is, being of a mean, so that eight steps of an eighth go as far as one.
batch, max_epochs = 256, 500
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(
        type="SGD", lr=0.01 * batch, momentum=0.9, nesterov=True, weight_decay=5e-4 * (batch / 64) / batch
    ),
    clip_grad=dict(max_norm=10 / batch),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
    dict(type="LinearLR", start_factor=1.0, end_factor=0.01, by_epoch=True, begin=0, end=max_epochs),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=10)
val_cfg, test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
custom_hooks = [
    dict(type="ibkd_mm.StudentEMAHook", decay=0.9999, warmup=2000),
    dict(type="ibkd_mm.CloseMosaicHook", last=10),
]
auto_scale_lr = dict(enable=False, base_batch_size=batch)
