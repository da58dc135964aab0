"""mmengine's knowledge of packages: lets configs say `_base_ = ['ibkd_mm::mask_rcnn/...']`."""

import functools
from collections.abc import Callable
from importlib.util import find_spec

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

_OURS = "ibkd_mm"

# mmengine's: (path or package::path, file that names it) -> (file, scope).
_Find = Callable[[str, str], tuple[str, str | None]]


def install() -> None:
    """Make configs of ours, and of the mmseg fork, inheritable from anywhere. Idempotent.

    Upstream keeps a fixed table of packages and offers no way to register one; drop this when it does.
    """
    MODULE2PACKAGE[_OURS] = _OURS
    # The table knows mmseg by the name of upstream's distribution, which the fork has changed.
    if find_spec(MODULE2PACKAGE["mmseg"]) is None:
        MODULE2PACKAGE["mmseg"] = "mmseg"
    if not hasattr(Config._get_cfg_path, "__wrapped__"):
        Config._get_cfg_path = staticmethod(_unscoped(Config._get_cfg_path))


def _unscoped(find: _Find) -> _Find:
    """Let what is inherited from us keep the scope of the config that inherits it.

    mmengine has everything in an inherited config built in the scope of its package. Ours speak of mmdet's
    things by their plain names (their default scope is mmdet's or mmseg's), and those are not found in ours.
    """

    @functools.wraps(find)
    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = find(cfg_path, filename)
        return path, None if scope == _OURS else scope

    return get_cfg_path
