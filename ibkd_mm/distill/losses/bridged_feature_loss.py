"""Feature maps of student and teacher, bridged into one space and compared level by level."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS

FeatureMaps = list[Tensor]


@MODELS.register_module()
class BridgedFeatureLoss(nn.Module):
    """Sum over levels of any loss that takes `preds_S` and `preds_T`, mmrazor's or ours.

    Args:
        loss: loss of one level, such as `dict(type='mmrazor.ChannelWiseDivergence', tau=1.0)`.
        bridge: module that brings the student's feature maps to the channels and sizes of the teacher's, such
            as `dict(type='ibkd_mm.CFB')`; None if they are the same already.
        student_levels: which of the recorded feature maps are compared, as indices; None for all. Nested
            records count in order: of `(a, [b, c])`, index 2 is c.
        teacher_levels: the same for the teacher, in the same order of strides.
        loss_weight: weight of each level.
    """

    def __init__(
        self,
        loss: Mapping[str, Any],
        *,
        bridge: Mapping[str, Any] | None = None,
        student_levels: Sequence[int] | None = None,
        teacher_levels: Sequence[int] | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.loss = MODELS.build(dict(loss))
        self.bridge = None if bridge is None else MODELS.build(dict(bridge))
        self.student_levels, self.teacher_levels = student_levels, teacher_levels
        self.loss_weight = loss_weight

    @property
    def waiting(self) -> bool:
        """Whether the bridge's layers are still to be built."""
        return bool(getattr(self.bridge, "waiting", False))

    def infer_channels(self, student: Any = None, teacher: Any = None) -> None:
        """Build the bridge for the recorded feature maps; if one side has none, `waiting` stays true."""
        if student is not None and teacher is not None:
            self.bridged(*self.levels(student, teacher))

    def forward(self, student: Any, teacher: Any) -> Tensor:
        """Compare feature maps, (B, C, H, W) and (B, D, h, w) for each level, in float32."""
        student, teacher = self.levels(student, teacher)
        return self.compare(self.bridged(student, teacher), teacher)

    def levels(self, student: Any, teacher: Any) -> tuple[FeatureMaps, FeatureMaps]:
        """Select the levels of both records."""
        own = _selected(student, self.student_levels, "student_levels")
        other = _selected(teacher, self.teacher_levels, "teacher_levels")
        if len(own) != len(other):
            raise UserError(
                f"{type(self).__name__} expects as many feature maps of the student as of the teacher, found "
                f"{len(own)} and {len(other)}. Set student_levels and teacher_levels."
            )
        return own, other

    def bridged(self, student: FeatureMaps, teacher: FeatureMaps) -> FeatureMaps:
        """Bring the student's feature maps into the teacher's space."""
        return student if self.bridge is None else self.bridge(student, teacher)

    def compare(self, student: FeatureMaps, teacher: FeatureMaps) -> Tensor:
        """Sum the loss over levels of the same shapes."""
        with torch.autocast(student[0].device.type, enabled=False):
            # mmrazor's losses need views, which a transformer's memory layout does not allow
            pairs = zip(student, teacher, strict=True)
            losses = [self.loss(*(each.float().contiguous() for each in pair)) for pair in pairs]
        return self.loss_weight * torch.stack(losses).sum()


def _selected(record: Any, indices: Sequence[int] | None, name: str) -> FeatureMaps:
    maps = _flat(record)
    if indices is None:
        return maps
    if any(not -len(maps) <= index < len(maps) for index in indices):
        raise UserError(f"{name}={list(indices)}: expected indices of {len(maps)} recorded feature maps.")
    return [maps[index] for index in indices]


def _flat(record: Any) -> FeatureMaps:
    return [record] if isinstance(record, Tensor) else [each for part in record for each in _flat(part)]
