"""What upstream was doing when it raised an error, read from the local variables of its calls.

mmengine's and pycocotools' errors do not name the setting or file that they are about. Each function can go
when the error that it reads names it.
"""

import inspect
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import mmengine
from mmengine.registry import Registry


@dataclass(frozen=True)
class FailedBuild:
    """A class or function that mmengine called to build something from a config, and its arguments."""

    target: Any
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the class or function."""
        return getattr(self.target, "__name__", str(self.target))

    def parameter_names(self) -> Iterator[str]:
        """Yield the names of all parameters, those of base classes too, which `**kwargs` passes on."""
        for owner in getattr(self.target, "__mro__", (self.target,)):
            try:
                yield from inspect.signature(owner).parameters
            except (TypeError, ValueError):
                continue


def find_failed_build(error: Exception) -> FailedBuild | None:
    """Find the innermost object that mmengine was building from a config."""
    for frame in _innermost_first(error):
        if frame.f_code.co_name == "build_from_cfg" and "obj_cls" in frame.f_locals:
            return FailedBuild(frame.f_locals["obj_cls"], frame.f_locals["args"])
    return None


def find_unknown_type(error: Exception) -> tuple[str, Registry] | None:
    """Find the innermost type that was looked up, and its registry, if the registry has no such type."""
    for frame in _innermost_first(error):
        names = frame.f_locals
        kind = names.get("obj_type", names.get("layer_type"))  # mmengine's, and mmcv's for layers
        if "optimizer_cls" in names:
            kind = getattr(names.get("self"), "optimizer_cfg", {}).get("type")
        if isinstance(kind, str) and isinstance(names.get("registry"), Registry):
            return None if _is_registered(kind, names["registry"]) else (kind, names["registry"])
    return None


def find_annotation_file(error: Exception) -> str | None:
    """Name the file that pycocotools was reading."""
    return _innermost_file(error, "annotation_file")


def find_config_line(error: Exception) -> tuple[str | None, int | None]:
    """Return file and line of the fault in a config, as far as they are known."""
    file = _innermost_file(error, "filename")
    if isinstance(error, SyntaxError):
        return file, error.lineno
    upstream = str(Path(mmengine.__file__).parent)
    for call in reversed(traceback.extract_tb(error.__traceback__)):
        if call.name == "<module>" and not call.filename.startswith(("<", upstream)):
            return call.filename, call.lineno
    return file, None


def _is_registered(kind: str, registry: Registry) -> bool:
    try:
        return registry.get(kind) is not None
    except RuntimeError:
        return False


def _innermost_first(error: Exception) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]


def _innermost_file(error: Exception, name: str) -> str | None:
    found = (frame.f_locals.get(name) for frame in _innermost_first(error))
    return next((path for path in found if isinstance(path, str) and Path(path).is_file()), None)
