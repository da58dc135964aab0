"""Packages that upstream imports for the sake of one transform: imported when that is used."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _Part:
    """Stands for something of a module, which is looked up when it is called or asked for something.

    It is no class: nothing inherits from it, and `isinstance` does not know it.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _real(self) -> Any:
        return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(self._real(), attribute)


class LazyModule(ModuleType):
    """Stands for a module, and has a part of any name that is asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, loader=None, is_package=True)
        self.__path__: list[str] = []
        self.__all__: list[str] = []

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return self.part(attribute)

    def part(self, name: str) -> Any:
        """Give what stands for a part of the module."""
        return _Part(self.__name__, name)


@contextmanager
def lazy_modules(*names: str) -> Iterator[None]:
    """Let modules, a package before what is inside it, be imported without being run."""
    names = tuple(name for name in names if name not in sys.modules and _installed(name))
    stand_ins = {name: LazyModule(name) for name in names}
    for name, module in stand_ins.items():
        parent, _, own = name.rpartition(".")
        if parent in stand_ins:
            setattr(stand_ins[parent], own, module)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _installed(name: str) -> bool:
    return find_spec(name.partition(".")[0]) is not None
