"""mmcv's operators without a compiler: a portable `mmcv._ext` for installations that have no compiled one."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

EXT = "mmcv._ext"


class MissingOpError(NotImplementedError):
    """An mmcv operator was called that only the compiled mmcv has."""


class PortableExt(ModuleType):
    """A module with every name that mmcv asks of `mmcv._ext`; those we lack fail only when they are called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> None:
            raise MissingOpError(
                f"mmcv's operator `{name}` is not among the portable ones of ibkd_mm. Build the compiled operators "
                "with `make ops` (about 7 minutes on 2 cores); they are picked up by themselves."
            )

        missing.__name__ = name
        return missing


class _PortableLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return PortableExt(spec.name, "Portable mmcv operators of ibkd_mm.")

    def exec_module(self, module: ModuleType) -> None:
        pass


def install() -> None:
    """Put a portable `mmcv._ext` in place unless a compiled one imports. Idempotent."""
    if EXT in sys.modules or _compiled_imports():
        return
    spec = importlib.util.spec_from_loader(EXT, _PortableLoader(), origin=__name__)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[EXT] = module


def _compiled_imports() -> bool:
    if importlib.util.find_spec(EXT) is None:
        return False
    try:
        importlib.import_module(EXT)
    except ImportError as error:
        warnings.warn(f"the compiled {EXT} does not import ({error}); using the portable one", stacklevel=3)
        return False
    return True


def backend() -> str:
    """Return which operators are active: 'compiled', 'torchvision' or 'portable'."""
    return "portable" if isinstance(sys.modules.get(EXT), PortableExt) else "compiled"
