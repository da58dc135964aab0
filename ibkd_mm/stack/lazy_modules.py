"""Stand-ins for modules that upstream imports at start and hardly ever uses."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _LazyAttribute:
    """Imports its module when it is called or read from. Neither a base class nor good for `isinstance`."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _load(self) -> Any:
        return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(self._load(), attribute)


class StandInModule(ModuleType):
    """Module that makes every attribute that it does not have when it is read, by `_make_attribute`."""

    def __init__(self, name: str, *, is_package: bool = True) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, loader=None, is_package=is_package)
        self.__all__: list[str] = []
        if is_package:
            self.__path__: list[str] = []

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # attributes that Python looks up, such as `__file__`
            raise AttributeError(attribute)
        return self._make_attribute(attribute)

    def _make_attribute(self, name: str) -> Any:
        return _LazyAttribute(self.__name__, name)


@contextmanager
def lazy_modules(*names: str) -> Iterator[None]:
    """Put stand-ins for modules in place while upstream is imported; list a package before its modules."""
    names = tuple(name for name in names if name not in sys.modules and find_spec(name.partition(".")[0]))
    stand_ins = {name: StandInModule(name) for name in names}
    for name, module in stand_ins.items():
        parent, _, child = name.rpartition(".")
        if parent in stand_ins:
            setattr(stand_ins[parent], child, module)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
