"""Prepare the OpenMMLab packages, see `ibkd_mm.stack`, and register everything of this package.

A config imports this module by `custom_imports`.
"""

from importlib import import_module
from pkgutil import iter_modules

from ibkd_mm import stack

stack.prepare()

from ibkd_mm import datasets, distill, engine, methods, offline, yolov10  # noqa: E402, F401

for _method in iter_modules(methods.__path__, f"{methods.__name__}."):
    import_module(_method.name)
