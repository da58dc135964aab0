# The published training of YOLOv10: 500 epochs of SGD, 256 images in a step, linear learning rate decay.
# There, the loss is multiplied by the number of images in a step. Here it is their mean, so the learning rate
# is multiplied by that number, and weight decay and the clipping norm are divided by it: the steps are equal.
# On fewer than 8 GPUs with 32 images each, accumulate gradients over several batches; on one GPU with
#   --cfg-options optim_wrapper.accumulative_counts=8
# Nothing else changes: epochs, warm-up and decay count images; clipping and averaged weights count steps.
# Do not combine this with `--auto-scale-lr`, which makes the steps smaller instead: the learning rate is
# proportional to the images in a step, and clipping, which applies to the mean, stays the same.
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
