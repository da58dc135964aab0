"""The operators' backends: a test that takes `ext` runs once for each that is installed here."""

import functools
import sys
from types import SimpleNamespace
from unittest import mock

import pytest

from ibkd_mm.stack import ops
from ibkd_mm.stack.ops import torchvision_kernels
from ibkd_mm.stack.ops.extension import OPERATORS

INSTALLED = {
    "portable": True,
    "torchvision": torchvision_kernels.is_importable(),
    "compiled": ops.backend() == "compiled",
}


def _portable_extension(use_torchvision):
    def choosing(operator):
        @functools.wraps(operator)
        def call(*args, **kwargs):
            with mock.patch.object(torchvision_kernels, "is_preferred", return_value=use_torchvision):
                return operator(*args, **kwargs)

        return call

    return SimpleNamespace(**{name: choosing(operator) for name, operator in OPERATORS.items()})


@pytest.fixture(scope="session", params=[name for name, installed in INSTALLED.items() if installed])
def ext(request):
    """The extension module as mmcv sees it."""
    if request.param == "compiled":
        return sys.modules["mmcv._ext"]
    return _portable_extension(use_torchvision=request.param == "torchvision")


@pytest.fixture(scope="session")
def portable():
    """The portable operators alone, for what the others do not promise."""
    return _portable_extension(use_torchvision=False)
