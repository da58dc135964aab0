"""mmrazor's distillation part on current torch and mmcv."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ibkd_mm.stack.lazy_modules import StandInModule, lazy_modules

# mmrazor 1.0.0 asserts `mmcv <= 2.1.0`, although its distillation part works with newer versions.
_MAX_MMCV_VERSION = "2.1.0"

# These import private names of torch.ao that no longer exist. Distillation does not use them.
_BROKEN_MODULES = (
    "mmrazor.structures.quantization",
    "mmrazor.models.quantizers",
    "mmrazor.models.observers",
    "mmrazor.models.fake_quants",
    "mmrazor.models.algorithms.quantization",
    "mmrazor.engine.runner.quantization_loops",
)

# The parts that our distillers are built on.
_REQUIRED_MODULES = (
    "mmrazor.models.algorithms",
    "mmrazor.models.distillers",
    "mmrazor.models.architectures.connectors",
    "mmrazor.models.losses",
    "mmrazor.models.task_modules.recorder",
    "mmrazor.models.task_modules.delivery",
    "mmrazor.engine.hooks",
)


class _BrokenModule(StandInModule):
    """Stand-in for a module that cannot be imported; its functions fail only when they are called."""

    def _make_attribute(self, name: str) -> Callable[..., Any]:
        def unavailable(*_: Any, **__: Any) -> None:
            raise RuntimeError(
                f"{self.__name__}.{name} is part of mmrazor's quantisation, which does not run on this "
                "torch. ibkd_mm makes only mmrazor's distillation part available."
            )

        return unavailable


@contextmanager
def _compatible_state() -> Iterator[None]:
    """Report a version of mmcv that mmrazor accepts, and undo its recursion limit of a million."""
    import mmcv

    version, limit = mmcv.__version__, sys.getrecursionlimit()
    mmcv.__version__ = _MAX_MMCV_VERSION
    try:
        yield
    finally:
        mmcv.__version__ = version
        sys.setrecursionlimit(limit)  # else endless recursion crashes Python instead of raising an error


def install() -> None:
    """Import mmrazor's distillation part, or raise an error that names the missing part. Idempotent.

    Only its architecture search and one old distiller use `scipy.stats`, which is slow to import. Can go when
    a release of mmrazor accepts mmcv 2.3 and torch 2.6 or newer.
    """
    if "mmrazor" in sys.modules and not isinstance(sys.modules.get(_BROKEN_MODULES[0]), _BrokenModule):
        return  # another mmrazor, which imports by itself
    for name in _BROKEN_MODULES:
        sys.modules.setdefault(name, _BrokenModule(name))
    with _compatible_state(), lazy_modules("scipy.stats"):
        for name in _REQUIRED_MODULES:
            try:
                importlib.import_module(name)
            except Exception as error:
                raise ImportError(
                    f"mmrazor's distillation part is not usable: importing {name} failed with "
                    f"{type(error).__name__}: {error}. `ibkd doctor` shows what is wrong with the "
                    "installation; `make install` (or `pip install mmrazor==1.0.0 joblib`) fixes it."
                ) from error
