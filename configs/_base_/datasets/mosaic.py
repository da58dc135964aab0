# The published augmentation of YOLOv10, for the data sets beside it: mosaics of four pictures, shrunk,
# enlarged and moved, other colours, mirrored. Parts that each puts together at its own size.
read = dict(type="LoadImageFromFile")
annotate = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
mosaic = dict(
    type="ibkd_mm.MosaicAffine",
    prob=1.0,
    scale=0.5,
    translate=0.1,
    degrees=0.0,
    shear=0.0,
    fill=(114, 114, 114),
    # what is left of an instance and too little to learn from: in pixels, as a share, long side over short
    min_side=2,
    min_area_share=0.1,
    max_aspect=100,
)
# One transform of several, since MultiImageMixDataset copies all that a sample holds before each.
finish = dict(
    type="Compose",
    transforms=[
        dict(type="ibkd_mm.HSVJitter", hue=0.015, saturation=0.7, value=0.4),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
        dict(type="ibkd_mm.MaskCells", stride=4),  # the head's: half of its finest stride
    ],
)
pack = dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"))
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="MultiImageMixDataset"),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
)
test_dataloader = val_dataloader
