"""mmrazor's distillation part on today's torch and mmcv."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ibkd_mm.stack.lazy_modules import LazyModule, lazy_modules

# mmrazor 1.0.0 asserts `mmcv <= 2.1.0` although nothing of its distillation part minds a newer one.
_NEWEST_MMCV_IT_ACCEPTS = "2.1.0"

# These import private names of torch.ao that are gone. Nothing of distillation uses them.
_DEAD_MODULES = (
    "mmrazor.structures.quantization",
    "mmrazor.models.quantizers",
    "mmrazor.models.observers",
    "mmrazor.models.fake_quants",
    "mmrazor.models.algorithms.quantization",
    "mmrazor.engine.runner.quantization_loops",
)

# What must be there afterwards: the parts that our own distillers are built on.
_PROMISED = (
    "mmrazor.models.algorithms",
    "mmrazor.models.distillers",
    "mmrazor.models.architectures.connectors",
    "mmrazor.models.losses",
    "mmrazor.models.task_modules.recorder",
    "mmrazor.models.task_modules.delivery",
    "mmrazor.engine.hooks",
)


class _Placeholder(LazyModule):
    """Stands for a module that cannot be imported; whatever is asked of it fails only when it is called."""

    def part(self, name: str) -> Callable[..., Any]:
        """Give what says why it is not there."""

        def unavailable(*_: Any, **__: Any) -> None:
            raise RuntimeError(
                f"{self.__name__}.{name} is part of mmrazor's quantisation, which does not run on this "
                "torch. ibkd_mm makes only mmrazor's distillation part available."
            )

        return unavailable


@contextmanager
def _shown_mmcv_version(version: str) -> Iterator[None]:
    import mmcv

    real = mmcv.__version__
    mmcv.__version__ = version
    try:
        yield
    finally:
        mmcv.__version__ = real


@contextmanager
def _kept_recursion_limit() -> Iterator[None]:
    """Undo what mmrazor sets at import: at a million, endless recursion is a crash and no error."""
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def install() -> None:
    """Import mmrazor's distillation part, whole or with an error that says what is missing. Idempotent.

    `scipy.stats`, a third of a second, is for its search of architectures and for one old distiller.

    Can go when mmrazor has a release that accepts mmcv 2.3 and torch 2.6 or newer.
    """
    if "mmrazor" in sys.modules and not isinstance(sys.modules.get(_DEAD_MODULES[0]), _Placeholder):
        return  # somebody's mmrazor imports by itself: nothing to mend
    for name in _DEAD_MODULES:
        sys.modules.setdefault(name, _Placeholder(name))
    with _shown_mmcv_version(_NEWEST_MMCV_IT_ACCEPTS), _kept_recursion_limit(), lazy_modules("scipy.stats"):
        for name in _PROMISED:
            try:
                importlib.import_module(name)
            except Exception as error:
                raise ImportError(
                    f"mmrazor's distillation part is not usable: importing {name} failed with "
                    f"{type(error).__name__}: {error}. `ibkd doctor` tells what is wrong with the "
                    "installation; `make install` (or `pip install mmrazor==1.0.0 joblib`) mends it."
                ) from error
