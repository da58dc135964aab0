# Swin-T instead of the ResNet of a Mask2Former: parts for a config's `model` and `paramwise_cfg`.
# It only defines the parts, so that it can be inherited together with any other base.
depths = [2, 2, 6, 2]
swin_t = dict(
    _delete_=True,
    type="SwinTransformer",
    embed_dims=96,
    depths=depths,
    num_heads=[3, 6, 12, 24],
    window_size=7,
    drop_path_rate=0.3,
    init_cfg=None,
)
swin_t_channels = [96, 192, 384, 768]

# A tenth of the learning rate, and no weight decay for norms and position embeddings.
_norm = dict(lr_mult=0.1, decay_mult=0.0)
swin_t_norms = {
    "backbone.patch_embed.norm": _norm,
    "backbone.norm": _norm,
    "absolute_pos_embed": _norm,
    "relative_position_bias_table": _norm,
    **{f"backbone.stages.{i}.blocks.{j}.norm": _norm for i, depth in enumerate(depths) for j in range(depth)},
    **{f"backbone.stages.{i}.downsample.norm": _norm for i in range(len(depths) - 1)},
}
