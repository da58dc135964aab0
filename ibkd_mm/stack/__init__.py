"""The only place that works around faults of other packages or touches their private names."""


def prepare() -> None:
    """Make mmcv's operators and mmrazor importable and our configs known to mmengine. Idempotent."""
    from ibkd_mm.stack import config_patches, mmdet_patches, ops, razor

    ops.install()
    config_patches.extend_inheritance()
    config_patches.cache_formatted_text()
    mmdet_patches.import_datasets()
    razor.install()
    mmdet_patches.keep_masks_boolean()
