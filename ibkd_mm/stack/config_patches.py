"""mmengine's configs: `_base_ = ['ibkd_mm::mask_rcnn/...']`, and a cache for a config's formatted text."""

from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

_OURS = "ibkd_mm"

# mmengine's: (path or package::path, file that names it) -> (file, scope).
_Find = Callable[[str, str], tuple[str, str | None]]


def extend_inheritance() -> None:
    """Let any config inherit configs of this package and of the mmseg fork. Idempotent.

    mmengine has a fixed table of packages. Can go when a package can register itself.
    """
    MODULE2PACKAGE[_OURS] = _OURS
    # The table has the name of upstream's mmseg distribution; the fork's is another.
    if find_spec(MODULE2PACKAGE["mmseg"]) is None:
        MODULE2PACKAGE["mmseg"] = "mmseg"
    if not hasattr(Config._get_cfg_path, "__wrapped__"):
        Config._get_cfg_path = staticmethod(_find_in_package(Config._get_cfg_path))


def _find_in_package(find: _Find) -> _Find:
    """Look for `package::path` in the package's config folder first; give our configs no scope of their own.

    mmengine first reads all metafiles of a package for each entry of `_base_`, which takes half a second. It
    also builds everything in an inherited config in the scope of that config's package: the plain names of
    mmdet and mmseg that our configs use would not be found in scope `ibkd_mm`.
    """

    @wraps(find)
    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        package, _, name = cfg_path.partition("::")
        spec = find_spec(package) if name and package.isidentifier() else None
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / ".mim" / "configs" / name
            if path.is_file():
                return str(path), None if package == _OURS else package
        return find(cfg_path, filename)

    return get_cfg_path


def cache_formatted_text() -> None:
    """Let mmengine format a config again only after it changed. Idempotent.

    A training formats it four times before its first step, for the log and for files, at 0.15 to 0.2 s each.
    Can go when mmengine caches it.
    """
    format_config = Config.pretty_text.fget
    if hasattr(format_config, "__wrapped__"):
        return
    cache: dict[tuple[str, bool], str] = {}

    @wraps(format_config)
    def pretty_text(config: Config) -> str:
        state = repr(config._cfg_dict), config._format_python_code
        if state not in cache:
            cache.clear()
            cache[state] = format_config(config)
        return cache[state]

    Config.pretty_text = property(pretty_text)
