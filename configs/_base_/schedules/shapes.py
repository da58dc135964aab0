# What trainings on Shapes have in common: pictures so small that a CPU does, in bfloat16 where it can.
memory_format = "channels_last"
optim_wrapper = dict(
    type="ibkd_mm.CpuAmpOptimWrapper",
    dtype="auto",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=10),
)
val_cfg, test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
