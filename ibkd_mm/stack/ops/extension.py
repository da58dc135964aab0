"""Portable replacement of the module `mmcv._ext`, with the names and signatures that mmcv uses."""

from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

from ibkd_mm.stack.ops.deform_attn import ms_deform_attn_backward, ms_deform_attn_forward
from ibkd_mm.stack.ops.focal_loss import sigmoid_focal_loss_backward, sigmoid_focal_loss_forward
from ibkd_mm.stack.ops.nms import nms
from ibkd_mm.stack.ops.roi_align import roi_align_backward, roi_align_forward
from ibkd_mm.stack.ops.soft_nms import softnms

NAME = "mmcv._ext"


def get_compiler_version() -> str:
    """Return what mmcv's environment report shows as the compiler."""
    return "none (portable operators of ibkd_mm)"


def get_compiling_cuda_version() -> str:
    """Return what mmcv's environment report shows as the CUDA version."""
    return "none (portable operators of ibkd_mm)"


OPERATORS: dict[str, Callable[..., Any]] = {
    operator.__name__: operator
    for operator in (
        nms,
        softnms,
        roi_align_forward,
        roi_align_backward,
        ms_deform_attn_forward,
        ms_deform_attn_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
        get_compiler_version,
        get_compiling_cuda_version,
    )
}


class MissingOperatorError(NotImplementedError):
    """Only the compiled mmcv has the operator that was called."""


class PortableExtension(ModuleType):
    """Module with a function for every name, as mmcv requires all its operators at import."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):  # attributes that Python looks up, such as `__path__`
            raise AttributeError(name)
        return _missing(name)


def _missing(name: str) -> Callable[..., Any]:
    def missing(*_: Any, **__: Any) -> None:
        raise MissingOperatorError(
            f"mmcv's operator `{name}` is not among the portable ones ({', '.join(sorted(OPERATORS))}). "
            "`make ops` builds the compiled operators, which include it and are then used automatically."
        )

    missing.__name__ = missing.__qualname__ = name
    return missing


class _PortableLoader(Loader):
    """Loader for the module's spec, which `find_spec` and reloading need."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return PortableExtension(spec.name, __doc__)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(OPERATORS)


def build() -> ModuleType:
    """Return a new portable extension module."""
    spec = ModuleSpec(NAME, _PortableLoader(), origin=__name__)
    module = module_from_spec(spec)
    _PortableLoader().exec_module(module)
    return module
