"""Portable replacement of the module `mmcv._ext`, with the names and signatures that mmcv uses."""

from collections.abc import Callable
from typing import Any

from ibkd_mm.stack.lazy_modules import StandInModule
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


class PortableExtension(StandInModule):
    """Module with the portable operators, and a failing function for every other name.

    mmcv requires at import that all its operators exist.
    """

    def __init__(self) -> None:
        super().__init__(NAME, is_package=False)
        vars(self).update(OPERATORS)

    def make_attribute(self, name: str) -> Callable[..., Any]:
        """Return a function that raises an error."""

        def missing(*_: Any, **__: Any) -> None:
            raise MissingOperatorError(
                f"mmcv's operator `{name}` is not among the portable ones ({', '.join(sorted(OPERATORS))}). "
                "`make ops` builds the compiled operators, which include it and are then used automatically."
            )

        missing.__name__ = missing.__qualname__ = name
        return missing
