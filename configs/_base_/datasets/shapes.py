# Shapes, the embedded data: generated into data_root on first use (about ten seconds). Only datasets, so that
# this file can be inherited together with an upstream config that has loaders (mmengine refuses bases that
# share a key).
shapes_root = "data/shapes/hard"
shapes = dict(
    type="ibkd_mm.ShapesDataset",
    data_root=shapes_root,
    spec=dict(preset="hard", train=2000, val=300, size=160, seed=0),
)
shapes_train = dict(
    **shapes,
    split="train",
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
        dict(type="RandomFlip", prob=[0.25] * 3, direction=["horizontal", "vertical", "diagonal"]),
        dict(type="PackDetInputs"),
    ],
)
shapes_val = dict(
    **shapes,
    split="val",
    test_mode=True,
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(160, 160), keep_ratio=True),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
        dict(
            type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
        ),
    ],
)
shapes_metric = dict(
    type="CocoMetric", ann_file=shapes_root + "/annotations/val.json", metric=["bbox", "segm"]
)
