from types import SimpleNamespace

import pytest
from helpers import synthetic_work_dirs


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """Functions that write work dirs, see helpers/synthetic_work_dirs.py."""
    return SimpleNamespace(**vars(synthetic_work_dirs))
