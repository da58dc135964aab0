# Common settings of trainings on Shapes: small images, trained on a CPU, in bfloat16 if it supports that.
memory_format = "channels_last"
optim_wrapper = dict(
    type="ibkd_mm.CpuAmpOptimWrapper",
    dtype="auto",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=10),
)
val_cfg, test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
