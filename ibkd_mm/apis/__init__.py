"""The Python calls behind every command."""

from ibkd_mm.apis.check import CheckResult, check
from ibkd_mm.apis.config import load_config
from ibkd_mm.apis.export import Exported, export
from ibkd_mm.apis.publish import Published, publish
from ibkd_mm.apis.test import TestResult, test
from ibkd_mm.apis.train import TrainResult, train

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
