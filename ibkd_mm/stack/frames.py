"""What upstream was doing when an error left it: read from the calls, since its errors do not say it.

Each of these can go when the error that it reads names the file, type or setting that it is about.
"""

import traceback
from dataclasses import dataclass
from inspect import getfile
from pathlib import Path
from types import FrameType
from typing import Any

import mmengine
from mmengine.registry import Registry
from mmengine.runner import Runner


@dataclass(frozen=True)
class Building:
    """A call of something that a config names, with the settings that it was given."""

    made: Any
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of what was called."""
        return getattr(self.made, "__name__", str(self.made))


def being_built(error: Exception) -> Building | None:
    """Find the innermost thing that mmengine was building from a config."""
    for frame in _innermost_first(error):
        if frame.f_code.co_name == "build_from_cfg" and "obj_cls" in frame.f_locals:
            return Building(frame.f_locals["obj_cls"], frame.f_locals["args"])
    return None


def looked_up(error: Exception) -> tuple[str, Registry] | None:
    """Find the name that was looked up, and the registry it was looked up in."""
    for frame in _innermost_first(error):
        names = frame.f_locals
        kind = names.get("obj_type", names.get("layer_type"))  # mmengine's, and mmcv's for layers
        if "optimizer_cls" in names:
            kind = getattr(names.get("self"), "optimizer_cfg", {}).get("type")
        if isinstance(kind, str) and isinstance(names.get("registry"), Registry):
            return kind, names["registry"]
    return None


def setting_up(error: Exception) -> str | None:
    """Name the method of mmengine's runner that could not take what the config says."""
    code = _innermost_first(error)[0].f_code
    is_setup = code.co_name.startswith(("build_", "register_", "_check", "__init__", "scale_lr", "setup_"))
    return code.co_name if is_setup and code.co_filename == getfile(Runner) else None


def annotations_being_read(error: Exception) -> str | None:
    """Name the file that pycocotools was reading."""
    return _innermost_file(error, "annotation_file")


def place_in_config(error: Exception) -> tuple[str | None, int | None]:
    """Name file and line of a config's fault, as far as they show."""
    file = _innermost_file(error, "filename")
    if isinstance(error, SyntaxError):
        return file, error.lineno
    upstream = str(Path(mmengine.__file__).parent)
    for call in reversed(traceback.extract_tb(error.__traceback__)):
        if call.name == "<module>" and not call.filename.startswith(("<", upstream)):
            return call.filename, call.lineno
    return file, None


def last_line(error: Exception) -> str:
    """Return the line of code that the error left from."""
    return traceback.extract_tb(error.__traceback__)[-1].line or ""


def _innermost_first(error: Exception) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]


def _innermost_file(error: Exception, name: str) -> str | None:
    found = (frame.f_locals.get(name) for frame in _innermost_first(error))
    return next((path for path in found if isinstance(path, str) and Path(path).is_file()), None)
