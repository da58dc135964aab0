"""What is recorded, what brings it together, what compares it: mmrazor's distiller, its gaps closed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.registry import DefaultScope
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from ibkd_mm.distill.mapping_checks import (
    chain,
    check_extra,
    check_names,
    check_records,
    check_signature,
    listed,
    taken,
)
from ibkd_mm.distill.record_reader import RecordReader, RecordRequest
from ibkd_mm.distill.recorders import check_kinds, check_sources, stop_when_recorded
from ibkd_mm.distill.teacher import NullTeacher
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS

_SIDES = {True: "student_recorders", False: "teacher_recorders"}
_EXTRA = "extra_targets"


@MODELS.register_module()
class CheckedDistiller(ConfigurableDistiller):
    """mmrazor's `ConfigurableDistiller`: names that lead nowhere are refused, and losses have schedules.

    Beside what mmrazor's takes, in `loss_forward_mappings`:

    * `recorder` may be a list: what they recorded stands one after the other, as a list;
    * `data_idx` may be a list of places, each a list of indices one inside the other; the argument is then
      the list of what lies there;
    * `towards` names another argument of the same loss, which the connector is given as well: a bridge has
      to know where it leads. The loss need not take that argument;
    * `connector` may be a list, each being given what the one before made; `towards` is then one as well.

    A loss may return a dict: what `loss_x` calls `loss_y` is then logged as `x.loss_y`, and what has no
    `loss` in its name is logged only. A connector is called once for all losses that ask the same of it.

    Args:
        student_recorders: as mmrazor's, as are all others.
        teacher_recorders: of outputs of modules, the teacher's forward ends with the last of them.
        distill_deliveries: what of the teacher is put into the student.
        connectors: what brings records into one space.
        distill_losses: what compares them.
        loss_forward_mappings: which records each loss is given.
        extra_targets: an `ExtraTargets`, whose `teacher` says which record the teacher's instances are, as
            in a mapping; None for the ground truth alone. Truth is there or it is not, so their factor,
            `extra_targets`, does not scale them: they are added while it is above 0.
        init_cfg: as mmengine's.
    """

    def __init__(
        self,
        student_recorders: Mapping[str, Any] | None = None,
        teacher_recorders: Mapping[str, Any] | None = None,
        distill_deliveries: Mapping[str, Any] | None = None,
        connectors: Mapping[str, Any] | None = None,
        distill_losses: Mapping[str, Any] | None = None,
        loss_forward_mappings: Mapping[str, Any] | None = None,
        extra_targets: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        losses, mappings = dict(distill_losses or {}), dict(loss_forward_mappings or {})
        recorders = {True: dict(student_recorders or {}), False: dict(teacher_recorders or {})}
        check_names(losses, mappings)
        for side, given in recorders.items():
            check_kinds(given, _SIDES[side])
        extra = dict(extra_targets or {})
        extra_from = extra.pop("teacher", None)
        check_records(mappings, recorders, connectors or {})
        if extra:
            check_extra(extra_from, recorders, connectors or {})
        # what only losses that never count would use is not built: it would be trained to no end
        used = _used_connectors(
            [each for name, each in mappings.items() if losses[name].get("loss_weight", 1)]
        )
        built = {name: one for name, one in (connectors or {}).items() if name in used | _names(extra_from)}
        with DefaultScope.overwrite_default_scope("mmrazor"):  # whose recorders have no scope in their names
            super().__init__(
                recorders[True], recorders[False], distill_deliveries, built, losses, init_cfg=init_cfg
            )
        for loss, arguments in mappings.items():
            check_signature(loss, self.distill_losses[loss], arguments)
        self.loss_forward_mappings = mappings
        self.teacher_recorders: RecorderManager
        self.reader = RecordReader(self.student_recorders, self.teacher_recorders, self.connectors)
        self._recorders = recorders
        self._extra = RecordRequest(extra_from, {}, "distiller.extra_targets.teacher") if extra else None
        self.extra_targets = MODELS.build(extra) if extra else None
        self.factors = dict.fromkeys([*losses, *([_EXTRA] if extra else [])], 1.0)
        """What each loss counts at the moment: schedules change it, and at 0 the loss is left out.

        So are `extra_targets`, where there are any; above 0 they are added whole.
        """

    @property
    def active(self) -> bool:
        """Whether anything of the teacher counts at the moment."""
        return self._adding is not None or any(map(self._counts, self.loss_forward_mappings))

    @property
    def counting(self) -> list[nn.Module]:
        """The losses that count at the moment."""
        return [self.distill_losses[loss] for loss in filter(self._counts, self.loss_forward_mappings)]

    @property
    def _adding(self) -> RecordRequest | None:
        """What extra targets ask for, while they are added."""
        return self._extra if self.factors.get(_EXTRA, 0.0) > 0 else None

    def _counts(self, loss: str) -> bool:
        return self.factors[loss] != 0 and getattr(self.distill_losses[loss], "loss_weight", 1) != 0

    def prepare_from_student(self, model: nn.Module) -> None:
        """Attach the student's recorders, and show the student to what wants to know it."""
        check_sources(self._recorders[True], model, _SIDES[True])
        super().prepare_from_student(model)
        for part in (*self.distill_losses.values(), self.extra_targets):
            if hasattr(part, "attach"):
                part.attach(model)

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Attach the teacher's recorders, so that it runs as far as they ask."""
        if isinstance(model, NullTeacher):
            if self._wanted():
                raise UserError(
                    f"With online=False no teacher runs, and {', '.join(self._wanting())} asks for its "
                    "records (distiller.loss_forward_mappings): maps cannot be cached. Set online=True, or "
                    "that loss_weight to 0."
                )
            self.teacher_recorders = self.reader.managers[False] = RecorderManager()
            return
        check_sources(self._recorders[False], model, _SIDES[False])
        super().prepare_from_teacher(model)
        if not self.deliveries.deliveries:  # these take what comes at any place
            stop_when_recorded(self.teacher_recorders, self._wanted, model)

    def _wanted(self) -> dict[str, int]:
        """Say how many records of the teacher's recorders this step needs."""
        wanted: dict[str, int] = {}
        for info, *_ in self._asked():
            for name in () if info["from_student"] else listed(info["recorder"]):
                wanted[name] = max(wanted.get(name, 0), info.get("record_idx", 0) + 1)
        return wanted

    def _wanting(self) -> list[str]:
        """Name what counts and asks for a record of the teacher: losses, and extra targets."""
        asked = (each.where.split(".") for each in self._asked() if not each.info["from_student"])
        return sorted({parts[2 if parts[1] == "loss_forward_mappings" else 1] for parts in asked})

    def _asked(self) -> Iterator[RecordRequest]:
        """Tell all that is asked for in this step."""
        for loss in filter(self._counts, self.loss_forward_mappings):
            yield from (self._argument(loss, name) for name in self.loss_forward_mappings[loss])
        if self._adding is not None:
            yield self._adding

    def _argument(self, loss: str, name: str) -> RecordRequest:
        arguments = self.loss_forward_mappings[loss]
        return RecordRequest(arguments[name], arguments, f"distiller.loss_forward_mappings.{loss}.{name}")

    @torch.no_grad()
    def show_records(self) -> None:
        """Call connectors once with what is recorded, so that those that wait to see channels have them.

        One that goes on waiting is refused: it would be made in a step, when the optimizer is there already.
        """
        for asked in self._asked():
            if "connector" in asked.info and self.reader.is_recorded(asked):
                self.reader.read(asked)
        self.reader.forget()
        for name, connector in self.connectors.items():
            if getattr(connector, "waiting", False):
                raise UserError(
                    f"distiller.connectors.{name} takes its channels from the first maps that it is given, "
                    "and a run without ground truth gave it none. Record what modules put out in such a run, "
                    "too (mode='tensor'), not what losses alone need."
                )

    def consume_teacher_records(self) -> None:
        """Do what needs the teacher's records alone, as soon as they are there."""
        self.reader.consume_teacher_records(self._asked())

    def compute_distill_losses(self) -> dict[str, Tensor]:
        """Compute the losses that count, each times what it counts."""
        losses: dict[str, Tensor] = {}
        for loss, arguments in self.loss_forward_mappings.items():
            if self._counts(loss):
                module, factor = self.distill_losses[loss], self.factors[loss]
                if hasattr(module, "factor"):  # what it anneals inside
                    module.factor = factor
                given = {
                    name: self.reader.read(self._argument(loss, name)) for name in taken(module, arguments)
                }
                losses.update(_scaled(loss, module(**given), factor))
        self.reader.forget()
        return losses

    def with_extra_targets(self, samples: list[Any], inputs: Tensor) -> list[Any]:
        """Give the samples of (B, 3, H, W) inputs what the teacher saw besides, if the distillation is to."""
        if self.extra_targets is None or self._adding is None:
            return samples
        return self.extra_targets(samples, self.reader.read(self._adding), inputs.shape[2:])


def _used_connectors(mappings: Iterable[Mapping[str, Mapping[str, Any]]]) -> set[str]:
    return set().union(*(_names(info) for arguments in mappings for info in arguments.values()))


def _names(info: Mapping[str, Any] | None) -> set[str]:
    return set() if info is None else {connector for connector, _ in chain(info)}


def _scaled(loss: str, value: Any, factor: float) -> dict[str, Tensor]:
    """Name what a loss returned, and scale what is trained by: what mmengine finds `loss` in the name of."""
    if not isinstance(value, dict):
        return {loss: value * factor}
    stem = loss.replace("loss_", "").replace("loss", "")
    return {
        f"{stem}.{name}": part * factor if "loss" in name else part.detach() for name, part in value.items()
    }
