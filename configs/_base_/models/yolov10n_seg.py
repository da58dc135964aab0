# YOLOv10-N with masks: 3,188,512 parameters to train, 2,551,680 deployed, 9.95 GFLOPs at 640x640, 80 classes.
layers = dict(norm_cfg=dict(type="BN", eps=1e-3, momentum=0.03), act_cfg=dict(type="SiLU"))
width, depth = dict(widen_factor=0.25, max_channels=1024), dict(deepen_factor=0.33, large_kernel=True)
levels = [256, 512, 1024]  # channels before multiplication by the width
assigner = dict(type="ibkd_mm.TaskAlignedAssigner", alpha=0.5, beta=6.0)
model = dict(
    type="ibkd_mm.YOLOv10",
    data_preprocessor=dict(
        type="mmdet.DetDataPreprocessor",
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        bgr_to_rgb=True,
        pad_value=114 / 255,  # images are padded after normalisation
        pad_size_divisor=32,
    ),
    backbone=dict(type="ibkd_mm.YOLOv10Backbone", compact_stages=[], **width, **depth, **layers),
    neck=dict(
        type="ibkd_mm.YOLOv10PAFPN", in_channels=levels, compact_blocks=["up32"], **width, **depth, **layers
    ),
    bbox_head=dict(
        type="ibkd_mm.YOLOv10SegHead",
        num_classes=80,
        in_channels=levels,
        strides=[8, 16, 32],
        reg_max=16,
        mask=dict(prototypes=32, channels=256),
        prior=dict(instances=5, size=640),
        losses=dict(
            loss_cls=dict(type="ibkd_mm.AssignedScoreLoss", loss_weight=0.5),
            loss_bbox=dict(type="ibkd_mm.CompleteIoULoss", loss_weight=7.5),
            loss_dfl=dict(type="mmdet.DistributionFocalLoss", loss_weight=1.5),
            # 2**24 cells, 64 MiB as float32: 81 masks for each of 8 images of 640x640 at once
            loss_mask=dict(type="ibkd_mm.CroppedMaskLoss", loss_weight=7.5, max_cells=2**24),
        ),
        **width,
        **layers,
    ),
    train_cfg=dict(one_to_many=dict(topk=10, **assigner), one_to_one=dict(topk=1, **assigner)),
    test_cfg=dict(max_per_img=300, score_thr=0.001, mask_thr_binary=0.5, max_pixels=2**27),
)
