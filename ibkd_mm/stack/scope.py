"""mmengine's knowledge of packages: lets configs say `_base_ = ['ibkd_mm::mask_rcnn/...']`."""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

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
        Config._get_cfg_path = staticmethod(_looked_up(Config._get_cfg_path))


def _looked_up(find: _Find) -> _Find:
    """Find what is inherited from a package where packages keep their configs, and leave ours their scope.

    mmengine reads all of a package's hundred metafiles first, for each line of `_base_`: half a second each
    time that a config is read. And it has everything in an inherited config built in the scope of its
    package. Ours speak of mmdet's things by their plain names (their default scope is mmdet's or mmseg's),
    and those are not found in ours.
    """

    @functools.wraps(find)
    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        package, _, name = cfg_path.partition("::")
        spec = find_spec(package) if name and package.isidentifier() else None
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / ".mim" / "configs" / name
            if path.is_file():
                return str(path), None if package == _OURS else package
        return find(cfg_path, filename)

    return get_cfg_path
