"""The module that stands for `mmcv._ext`: operators by the names and calls that mmcv uses."""

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
    """Say in mmcv's reports of the environment that nothing was compiled."""
    return "none (portable operators of ibkd_mm)"


def get_compiling_cuda_version() -> str:
    """Say the same of CUDA."""
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
    """An operator of mmcv was called that only the compiled mmcv has."""


class PortableExtension(ModuleType):
    """Has every name that mmcv may ask for: mmcv insists at import on all, and calls few."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):  # Python's own questions, such as `__path__`, want an honest answer
            raise AttributeError(name)
        return _missing(name)


def _missing(name: str) -> Callable[..., Any]:
    def missing(*_: Any, **__: Any) -> None:
        raise MissingOperatorError(
            f"mmcv's operator `{name}` is not among the portable ones ({', '.join(sorted(OPERATORS))}). "
            "`make ops` builds the compiled operators, which have it and are then used by themselves."
        )

    missing.__name__ = missing.__qualname__ = name
    return missing


class _PortableLoader(Loader):
    """Lets the module have the spec of a real one, which `find_spec` and reloading ask for."""

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
