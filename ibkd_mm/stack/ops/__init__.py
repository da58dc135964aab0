"""mmcv's operators without a compiler: a portable `mmcv._ext` if no compiled one is installed."""

import importlib
import sys
import warnings
from importlib.util import find_spec

from ibkd_mm.stack.ops import deform_attn, torchvision_kernels
from ibkd_mm.stack.ops.extension import NAME, PortableExtension, support_half_precision


def install() -> None:
    """Install the portable `mmcv._ext` unless a compiled one imports. Idempotent.

    Without an `mmcv._ext`, `mmcv.ops` and `mmdet.models` do not import. Can go when mmcv ships binaries or
    imports its operators only when they are used.
    """
    if NAME not in sys.modules and not _import_compiled():
        sys.modules[NAME] = PortableExtension()
        setattr(importlib.import_module("mmcv"), "_ext", sys.modules[NAME])  # noqa: B010  as an import does
    deform_attn.install()


def backend() -> str:
    """Return which kernels run: 'compiled' (mmcv's), 'torchvision' or 'portable'.

    torchvision's are used for NMS, and on a GPU for RoIAlign; the other operators are then portable.
    """
    if not isinstance(sys.modules.get(NAME), PortableExtension):
        return "compiled"
    return "torchvision" if torchvision_kernels.is_importable() else "portable"


def _import_compiled() -> bool:
    if find_spec(NAME) is None:
        return False
    try:
        support_half_precision(importlib.import_module(NAME))
    except ImportError as error:  # usually built for another torch
        warnings.warn(
            f"the compiled operators of mmcv do not import ({type(error).__name__}: {error}); using the "
            "portable ones. `make ops` builds them again.",
            stacklevel=3,
        )
        return False
    return True
