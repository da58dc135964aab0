"""Register everything of this package: what a config's `custom_imports` names.

Also makes the OpenMMLab stack usable on this machine, see `ibkd_mm.stack`.
"""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm import datasets, distill, engine, offline, yolov10  # noqa: E402
from ibkd_mm.methods import ibkd  # noqa: E402

__all__ = ["datasets", "distill", "engine", "ibkd", "offline", "yolov10"]
