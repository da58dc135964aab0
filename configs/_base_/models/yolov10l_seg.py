_base_ = "./yolov10n_seg.py"
width = dict(widen_factor=1.0, max_channels=512)
depth = dict(deepen_factor=1.0, large_kernel=False)
model = dict(
    backbone=dict(compact_stages=[4], **width, **depth),
    neck=dict(compact_blocks=["down16", "up16", "up32"], **width, **depth),
    bbox_head=dict(**width),
)
