"""Prepare the OpenMMLab packages, see `ibkd_mm.stack`, and register everything of this package.

A config imports this module by `custom_imports`.
"""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm import datasets, distill, engine, offline, yolov10  # noqa: E402, F401
from ibkd_mm.methods import ibkd  # noqa: E402, F401
