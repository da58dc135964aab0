"""Distil large segmentation models into small real-time ones, on OpenMMLab.

Importing this package makes the OpenMMLab stack usable on the machine at hand and registers everything that
is ours; `custom_imports = dict(imports=['ibkd_mm'])` is all that a config needs.
"""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm import datasets as datasets  # noqa: E402
from ibkd_mm import distill as distill  # noqa: E402
from ibkd_mm import engine as engine  # noqa: E402
from ibkd_mm import yolov10 as yolov10  # noqa: E402
from ibkd_mm.version import __version__ as __version__  # noqa: E402
