# The published augmentation of YOLOv10: mosaics of four images, scaled and shifted, colour changes, flips.
# The datasets in this folder combine these parts at their own image size.
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
    # remove instances of which less remains: side in pixels, fraction of the area, long over short side
    min_side=2,
    min_area_share=0.1,
    max_aspect=100,
)
# One transform that contains several, since MultiImageMixDataset copies the sample before each transform.
finish = dict(
    type="Compose",
    transforms=[
        dict(type="ibkd_mm.HSVJitter", hue=0.015, saturation=0.7, value=0.4),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
        dict(type="ibkd_mm.MaskCells", stride=4),  # of the head: half of its finest stride
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
    batch_size=32, num_workers=4, persistent_workers=True, sampler=dict(type="DefaultSampler", shuffle=False)
)
test_dataloader = val_dataloader
