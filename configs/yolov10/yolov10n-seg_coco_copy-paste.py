# As yolov10n-seg_coco.py, with instances of a second mosaic pasted on half of the mosaics.
_base_ = ["./yolov10n-seg_coco.py"]
mixed = dict(
    type="MultiImageMixDataset",
    dataset=_base_.coco_train,
    pipeline=[dict(size=_base_.size, **_base_.mosaic)],
)
paste = dict(
    type="ibkd_mm.PasteInstances", prob=0.5, max_pasted=20, min_side=2, min_area_share=0.1, max_aspect=100
)
train_dataloader = dict(dataset=dict(dataset=dict(_delete_=True, **mixed), pipeline=[paste, _base_.finish]))
