"""The one seam to other people's packages: what is wrong upstream is worked around here and nowhere else."""


def prepare() -> None:
    """Make mmcv's operators importable, mmengine aware of our configs and mmrazor importable. Idempotent."""
    from ibkd_mm.stack import bool_masks, config_text, mmdet_datasets, ops, razor, scope

    for part in (ops, scope, config_text, mmdet_datasets, razor, bool_masks):
        part.install()
