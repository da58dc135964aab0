"""What is recorded, what brings it together, what compares it: mmrazor's distiller, its gaps closed."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.registry import DefaultScope
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from ibkd_mm.distill.recorders import stop_when_recorded, want_kinds, want_sources
from ibkd_mm.distill.records import (
    CONNECTING,
    at,
    chain,
    flattened,
    listed,
    taken,
    want_names,
    want_records,
    want_signature,
)
from ibkd_mm.distill.teacher import Absent
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS

_SIDES = {True: "student_recorders", False: "teacher_recorders"}


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
            in a mapping; None for the ground truth alone.
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
        want_names(losses, mappings)
        for side, given in recorders.items():
            want_kinds(given, _SIDES[side])
        want_records(mappings, recorders, connectors or {})
        with DefaultScope.overwrite_default_scope("mmrazor"):  # whose recorders have no scope in their names
            super().__init__(
                recorders[True], recorders[False], distill_deliveries, connectors, losses, init_cfg=init_cfg
            )
        for loss, arguments in mappings.items():
            want_signature(loss, self.distill_losses[loss], arguments)
        self.loss_forward_mappings = mappings
        self._recorders = recorders
        self._connected: dict[str, Any] = {}
        extra = dict(extra_targets or {})
        self._extra_from = extra.pop("teacher", None)
        self.extra_targets = MODELS.build(extra) if extra else None
        self.factors = dict.fromkeys(losses, 1.0)
        """What each loss counts at the moment: schedules change it, and at 0 the loss is left out."""

    @property
    def active(self) -> bool:
        """Whether anything of the teacher counts at the moment."""
        return any(map(self._counts, self.loss_forward_mappings))

    def _counts(self, loss: str) -> bool:
        return self.factors[loss] != 0 and getattr(self.distill_losses[loss], "loss_weight", 1) != 0

    def prepare_from_student(self, model: nn.Module) -> None:
        """Attach the student's recorders, and show the student to the losses that want to know it."""
        want_sources(self._recorders[True], model, _SIDES[True])
        super().prepare_from_student(model)
        for loss in self.distill_losses.values():
            if hasattr(loss, "attach"):
                loss.attach(model)

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Attach the teacher's recorders, so that it runs as far as they ask."""
        if isinstance(model, Absent):
            if self._wanted():
                raise UserError(
                    f"With online=False no teacher runs, and {', '.join(self._wanting())} asks for its "
                    "records (distiller.loss_forward_mappings): maps cannot be cached. Set online=True, or "
                    "that loss_weight to 0."
                )
            self.teacher_recorders = RecorderManager()
            return
        want_sources(self._recorders[False], model, _SIDES[False])
        super().prepare_from_teacher(model)
        if not self.deliveries.deliveries:  # these take what comes at any place
            stop_when_recorded(self.teacher_recorders, self._wanted, model)

    def _wanted(self) -> dict[str, int]:
        """Say how many records of the teacher's recorders this step needs."""
        wanted: dict[str, int] = {}
        for info in self._asked():
            for name in () if info["from_student"] else listed(info["recorder"]):
                wanted[name] = max(wanted.get(name, 0), info.get("record_idx", 0) + 1)
        return wanted

    def _wanting(self) -> list[str]:
        """Name the losses that count and ask for a record of the teacher."""
        counted = filter(self._counts, self.loss_forward_mappings)
        infos = {loss: self.loss_forward_mappings[loss].values() for loss in counted}
        return [loss for loss, given in infos.items() if not all(info["from_student"] for info in given)]

    def _asked(self) -> Iterator[Mapping[str, Any]]:
        for loss, arguments in self.loss_forward_mappings.items():
            if self._counts(loss):
                yield from arguments.values()
        if self._extra_from is not None:
            yield self._extra_from

    @torch.no_grad()
    def show_records(self) -> None:
        """Call connectors once with what is recorded, so that those that wait to see channels have them."""
        for loss, arguments in self.loss_forward_mappings.items():
            for name, info in arguments.items():
                asked = [info, *(arguments[target] for _, target in chain(info) if target)]
                if "connector" in info and all(map(self._is_recorded, asked)):
                    self._argument(loss, name)
        self.forget_records()

    def _is_recorded(self, info: Mapping[str, Any]) -> bool:
        manager = self.student_recorders if info["from_student"] else self.teacher_recorders
        there = [manager.recorders.get(name) for name in listed(info["recorder"])]
        return all(recorder is not None and recorder.data_buffer for recorder in there)

    def compute_distill_losses(self) -> dict[str, Tensor]:
        """Compute the losses that count, each times what it counts."""
        losses: dict[str, Tensor] = {}
        for loss, arguments in self.loss_forward_mappings.items():
            if self._counts(loss):
                module, factor = self.distill_losses[loss], self.factors[loss]
                if hasattr(module, "factor"):  # what it anneals inside
                    module.factor = factor
                given = {name: self._argument(loss, name) for name in taken(module, arguments)}
                losses.update(_scaled(loss, module(**given), factor))
        return losses

    def forget_records(self) -> None:
        """Let go of what was recorded: it would hold its memory until the next step."""
        self._connected.clear()
        for manager in (self.student_recorders, self.teacher_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()

    def extended(self, samples: list[Any], inputs: Tensor) -> list[Any]:
        """Give the samples of (B, 3, H, W) inputs what the teacher saw besides, if the distillation is to."""
        if self.extra_targets is None:
            return samples
        teacher = self._given(self._extra_from, {}, "distiller.extra_targets.teacher")
        return self.extra_targets(samples, teacher, inputs.shape[2:])

    def _argument(self, loss: str, name: str) -> Any:
        arguments = self.loss_forward_mappings[loss]
        return self._given(arguments[name], arguments, f"distiller.loss_forward_mappings.{loss}.{name}")

    def _given(self, info: Mapping[str, Any], others: Mapping[str, Any], where: str) -> Any:
        """Get what is asked for; what connectors made of records in this step is kept, and made once."""
        value = self._record(info, where)
        asked: list[Any] = [{name: info[name] for name in info if name not in CONNECTING}]
        for connector, towards in chain(info):
            target = None if towards is None else others[towards]
            asked.append((connector, target))
            key = repr(asked)
            if key not in self._connected:
                given = [value]
                if target is not None:
                    given.append(self._given(target, others, f"{where.rpartition('.')[0]}.{towards}"))
                self._connected[key] = self.connectors[connector](*given)
            value = self._connected[key]
        return value[info["connector_idx"]] if "connector_idx" in info else value

    def _record(self, info: Mapping[str, Any], where: str) -> Any:
        recorders = self.student_recorders if info["from_student"] else self.teacher_recorders
        names, place = info["recorder"], info.get("data_idx")
        number = info.get("record_idx", 0)
        for name in listed(names):
            recorder = recorders.get_recorder(name)
            if len(recorder.data_buffer) <= number:
                raise UserError(
                    f"{where}: '{name}' recorded {len(recorder.data_buffer)} times in this step, and number "
                    f"{number} is wanted.{getattr(recorder, 'hint', '')}"
                )
        found = [recorders.get_recorder(name).get_record_data(number) for name in listed(names)]
        record = flattened(found) if isinstance(names, list | tuple) else found[0]
        if place is None:
            return record
        if isinstance(place, list | tuple):
            return [at(record, each, where) for each in place]
        return at(record, place, where)


def _scaled(loss: str, value: Any, factor: float) -> dict[str, Tensor]:
    """Name what a loss returned, and scale what is trained by: what mmengine finds `loss` in the name of."""
    if not isinstance(value, dict):
        return {loss: value * factor}
    stem = loss.replace("loss_", "").replace("loss", "")
    return {
        f"{stem}.{name}": part * factor if "loss" in name else part.detach() for name, part in value.items()
    }
