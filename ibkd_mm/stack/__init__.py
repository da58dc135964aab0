"""The one seam to other people's packages: what is wrong upstream is mended here and nowhere else."""

from ibkd_mm.stack import bool_masks, config_text, ops, quiet, razor, scope

__all__ = ["bool_masks", "config_text", "ops", "prepare", "quiet", "razor", "scope"]


def prepare() -> None:
    """Make mmcv's ops importable, mmengine aware of our configs and mmrazor importable. Idempotent."""
    ops.install()
    scope.install()
    config_text.install()
    quiet.install()
    razor.install()
    bool_masks.install()
