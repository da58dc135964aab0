# The second part of the small teacher's training: 8,000 images of its students' preset, from another seed.
_base_ = "./mask2former_tiny_shapes.py"
load_from = "work_dirs/mask2former_tiny_shapes/iter_4700.pth"
model = dict(backbone=dict(init_cfg=None))
memory_format = "channels_last"
env_cfg = dict(threads="spare")
others = dict(data_root="data/shapes/hard-8k", spec=dict(preset="hard", train=8000, seed=1))
train_dataloader = dict(dataset=others)

max_iters = 2000
optim_wrapper = dict(type="ibkd_mm.CpuAmpOptimWrapper", dtype="auto", optimizer=dict(lr=3e-4, fused=True))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=max_iters, eta_min=3e-6),
]
train_cfg = dict(max_iters=max_iters)
