"""The Python calls behind every command."""

from ibkd_mm.apis.config import load_config
from ibkd_mm.apis.test import TestResult, test
from ibkd_mm.apis.train import TrainResult, train

__all__ = ["TestResult", "TrainResult", "load_config", "test", "train"]
