"""The Python calls behind the commands, one module for each."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.apis.check import CheckResult, check  # noqa: E402
from ibkd_mm.apis.export import Exported, export  # noqa: E402
from ibkd_mm.apis.publish import Published, publish  # noqa: E402
from ibkd_mm.apis.test import TestResult, test  # noqa: E402
from ibkd_mm.apis.train import TrainResult, train  # noqa: E402
from ibkd_mm.config.load import load_config  # noqa: E402

__all__ = [
    "CheckResult",
    "Exported",
    "Published",
    "TestResult",
    "TrainResult",
    "check",
    "export",
    "load_config",
    "publish",
    "test",
    "train",
]
