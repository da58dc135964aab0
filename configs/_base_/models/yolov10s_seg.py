_base_ = "./yolov10n_seg.py"
width = dict(widen_factor=0.5)
model = dict(backbone=dict(compact_stages=[4], **width), neck=dict(**width), bbox_head=dict(**width))
