"""The only place that works around faults of other packages or touches their private names."""


def prepare() -> None:
    """Make mmcv's operators and mmrazor importable and our configs known to mmengine. Idempotent."""
    from ibkd_mm.stack import bool_masks, config_text, mmdet_datasets, ops, razor, scope

    for part in (ops, scope, config_text, mmdet_datasets, razor, bool_masks):
        part.install()
