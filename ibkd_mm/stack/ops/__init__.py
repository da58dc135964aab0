"""mmcv's operators without a compiler: a portable `mmcv._ext` where no compiled one is installed."""

import importlib
import sys
import warnings
from importlib.util import find_spec

from ibkd_mm.stack.ops import deform_attn, torchvision_kernels
from ibkd_mm.stack.ops.extension import NAME, MissingOperatorError, PortableExtension, build
from ibkd_mm.stack.ops.half_precision import serve_half

__all__ = ["MissingOperatorError", "backend", "install"]


def install() -> None:
    """Put the portable `mmcv._ext` in place unless a compiled one imports. Idempotent.

    Without the compiled module mmcv 2.3 cannot import `mmcv.ops`, nor mmdet its models. Can go when mmcv
    ships binaries or imports its operators only when they are used.
    """
    if NAME not in sys.modules and not _import_compiled():
        sys.modules[NAME] = build()
        setattr(importlib.import_module("mmcv"), "_ext", sys.modules[NAME])  # noqa: B010  as a real import does
    deform_attn.install()


def backend() -> str:
    """Return whose kernels run: 'compiled' (mmcv's), 'torchvision' or 'portable'.

    Torchvision's serve for NMS, and on a GPU for RoIAlign; the other operators are portable beside them.
    """
    if not isinstance(sys.modules.get(NAME), PortableExtension):
        return "compiled"
    return "torchvision" if torchvision_kernels.importable() else "portable"


def _import_compiled() -> bool:
    if find_spec(NAME) is None:
        return False
    try:
        serve_half(importlib.import_module(NAME))
    except ImportError as error:  # most often built for another torch than the one installed
        warnings.warn(
            f"the compiled operators of mmcv do not import ({type(error).__name__}: {error}); using the "
            "portable ones. `make ops` builds them anew.",
            stacklevel=3,
        )
        return False
    return True
