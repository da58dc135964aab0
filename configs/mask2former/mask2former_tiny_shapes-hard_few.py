# The small teacher, trained on only 50 labelled images of Shapes `hard`. Without augmentation it overfits
# them; mosaics and pasted instances prevent that.
_base_ = "./mask2former_tiny_shapes.py"
few = dict(
    **_base_.shapes,
    split="train",
    indices=50,
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    ],
)
mix = [
    dict(type="ibkd_mm.MosaicAffine", size=(160, 160), prob=0.5, scale=0.4),
    dict(type="ibkd_mm.PasteInstances", prob=0.5, max_pasted=4),
    dict(
        type="Compose",
        transforms=[
            dict(type="ibkd_mm.HSVJitter"),
            dict(type="RandomFlip", prob=[0.25] * 3, direction=["horizontal", "vertical", "diagonal"]),
            dict(type="PackDetInputs"),
        ],
    ),
]
train_dataloader = dict(dataset=dict(_delete_=True, type="MultiImageMixDataset", dataset=few, pipeline=mix))

max_iters = 1300
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="LinearLR", start_factor=1.0, end_factor=0.01, by_epoch=False, begin=700, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=650)
default_hooks = dict(checkpoint=dict(interval=650))
memory_format = "channels_last"
env_cfg = dict(threads="spare")
