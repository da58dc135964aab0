"""Contextual Feature Bridging: the student's feature maps in the teacher's space."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS


@MODELS.register_module(name=["ContextualFeatureBridge", "CFB"])
class ContextualFeatureBridge(nn.Module):
    """Contextual Feature Bridging (CFB): a 1x1 convolution and a group norm for each level.

    Converts the student's feature maps to the channels and sizes of the teacher's. The layers are built in
    the first call with so many levels, which `FrozenTeacherDistill` makes at build time; fewer feature maps
    are those of the first levels.

    Args:
        groups: groups of the group norm.
        refine: a connector appended to each level, such as `dict(type='mmrazor.MGDConnector')`; its channels
            are filled in.
    """

    def __init__(self, groups: int = 32, refine: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.groups, self.refine = groups, refine
        self.levels = nn.ModuleList()

    @property
    def waiting(self) -> bool:
        """Whether the layers are still to be built."""
        return not self.levels

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
        """Convert (B, C, H, W) of each level to the shape of the teacher's, (B, D, h, w)."""
        for pair in zip(student[len(self.levels) :], teacher[len(self.levels) :], strict=True):
            self._build(*(each.shape[1] for each in pair))
        pairs = zip(self.levels[: len(student)], student, teacher, strict=True)
        return [_resize(level(own), other) for level, own, other in pairs]

    def _build(self, own: int, other: int) -> None:
        if other % self.groups:
            raise UserError(
                f"ContextualFeatureBridge.groups is {self.groups}, which does not divide the {other} "
                "channels of a feature map of the teacher. Set groups to a divisor."
            )
        parts = [nn.Conv2d(own, other, 1), nn.GroupNorm(self.groups, other)]
        if self.refine:
            channels = {"student_channels": other, "teacher_channels": other}
            parts.append(MODELS.build({**self.refine, **channels}))
        self.levels.append(nn.Sequential(*parts))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="bilinear")
