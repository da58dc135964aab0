# A Mask2Former with 4.2 M parameters: MobileNetV2, 128 channels, 40 queries, 3 encoder and 5 decoder layers.
_base_ = "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"

dim = 128
num_classes = 8
attention = dict(embed_dims=dim)
model = dict(
    # upstream pads all images to 1024x1024, which makes a step with small images a hundred times slower
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, batch_augments=None),
    backbone=dict(_delete_=True, type="MobileNetV2", out_indices=(1, 2, 4, 6), norm_eval=True),
    panoptic_head=dict(
        in_channels=[24, 32, 96, 320],
        feat_channels=dim,
        out_channels=dim,
        num_things_classes=num_classes,
        num_queries=40,
        pixel_decoder=dict(
            encoder=dict(
                num_layers=3,
                layer_cfg=dict(
                    self_attn_cfg=attention, ffn_cfg=dict(embed_dims=dim, feedforward_channels=256)
                ),
            ),
            positional_encoding=dict(num_feats=dim // 2),
        ),
        positional_encoding=dict(num_feats=dim // 2),
        transformer_decoder=dict(
            num_layers=5,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=dim, feedforward_channels=512),
            ),
        ),
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
    ),
    panoptic_fusion_head=dict(num_things_classes=num_classes),
    train_cfg=dict(num_points=1024),
    test_cfg=dict(max_per_image=40),
)
