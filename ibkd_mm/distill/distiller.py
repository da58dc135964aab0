"""mmrazor's distiller with checked names, scheduled losses and a teacher that stops early."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.registry import DefaultScope
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from ibkd_mm.distill.mapping_checks import check_extra_targets, check_names, check_records, check_signature
from ibkd_mm.distill.record_reader import RecordReader, RecordRequest
from ibkd_mm.distill.recorders import check_kinds, check_sources, stop_when_recorded
from ibkd_mm.distill.teacher import NullTeacher
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS

_SIDES = {True: "student_recorders", False: "teacher_recorders"}
_EXTRA = "extra_targets"
_MAPPINGS = "distiller.loss_forward_mappings"


@MODELS.register_module()
class CheckedDistiller(ConfigurableDistiller):
    """mmrazor's `ConfigurableDistiller`: unknown names are errors, and every loss has a schedule.

    Arguments without a description are mmrazor's. In `loss_forward_mappings`, `recorder` may also be a list
    of names, for a list of records. Losses may use the capabilities in `ibkd_mm.distill.interfaces`.

    A loss may return a dictionary: its entry `loss_y` is logged as `x.loss_y` for the loss `loss_x`; an entry
    without 'loss' in its name is only logged.

    Args:
        teacher_recorders: if all record outputs of modules, the teacher's forward stops after the last one.
        distill_losses: a loss with loss_weight=0 is not built.
        extra_targets: an `ExtendsTargets` module; its `teacher` names the record of the teacher's instances,
            as in a mapping. Its factor, `extra_targets`, switches it: targets are added while it is above 0.
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
        extra = dict(extra_targets or {})
        extra_record = extra.pop("teacher", None)
        check_names(losses, mappings)
        for side, configs in recorders.items():
            check_kinds(configs, _SIDES[side])
        check_records(mappings, recorders, connectors or {})
        if extra:
            check_extra_targets(extra_record, recorders, connectors or {})
        active = {
            name: config
            for name, config in losses.items()
            if config.get("loss_weight", 1) != 0 or hasattr(MODELS.get(str(config["type"])), "loss_names")
        }
        # connectors of losses that are left out would be trained for nothing
        requests = [info for name in active for info in mappings[name].values()]
        names = {info.get("connector") for info in [*requests, *([extra_record] if extra else [])]}
        used = {name: config for name, config in (connectors or {}).items() if name in names}
        with DefaultScope.overwrite_default_scope("mmrazor"):  # whose recorders need no scope in their names
            super().__init__(*recorders.values(), distill_deliveries, used, active, init_cfg=init_cfg)
        self.loss_forward_mappings = {name: mappings[name] for name in active}
        for name, arguments in self.loss_forward_mappings.items():
            check_signature(name, self.distill_losses[name], arguments)
        self.teacher_recorders: RecorderManager
        self.reader = RecordReader(self.student_recorders, self.teacher_recorders, self.connectors)
        self._recorder_configs = recorders
        self._extra: Any = RecordRequest(extra_record, "distiller.extra_targets.teacher") if extra else None
        self.extra_targets = MODELS.build(extra) if extra else None
        # a module of several losses has a schedule for each
        modules = self.distill_losses.items()
        self._loss_names = {name: getattr(module, "loss_names", (name,)) for name, module in modules}
        every = {*losses, *(name for names in self._loss_names.values() for name in names)}
        # of each loss; schedules change it, and a loss with factor 0 is not computed
        self.factors = dict.fromkeys([*sorted(every), *([_EXTRA] if extra else [])], 1.0)

    @property
    def active(self) -> bool:
        """Whether the teacher has any effect in this step."""
        return self._adds_targets or any(map(self._counts, self.loss_forward_mappings))

    @property
    def active_losses(self) -> list[nn.Module]:
        """The losses that count in this step."""
        return [self.distill_losses[loss] for loss in filter(self._counts, self.loss_forward_mappings)]

    @property
    def _adds_targets(self) -> bool:
        return self._extra is not None and self.factors[_EXTRA] > 0

    def _counts(self, loss: str) -> bool:
        return any(self.factors[name] != 0 for name in self._loss_names[loss])

    def prepare_from_student(self, model: nn.Module) -> None:
        """Attach the student's recorders, and the losses that need a part of the student."""
        check_sources(self._recorder_configs[True], model, _SIDES[True])
        super().prepare_from_student(model)
        for part in (*self.distill_losses.values(), self.extra_targets):
            if hasattr(part, "attach"):
                part.attach(model)

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Attach the teacher's recorders, so that it runs only as far as they need."""
        if isinstance(model, NullTeacher):
            keys = (request.where for request in self._requests() if not request.info["from_student"])
            if losses := sorted({key.split(".")[-2] for key in keys}):
                raise UserError(
                    f"With online=False no teacher runs, but {', '.join(losses)} needs its records "
                    "(distiller.loss_forward_mappings): feature maps cannot be cached. Set online=True, or "
                    "that loss_weight to 0."
                )
            self.teacher_recorders = self.reader.managers[False] = RecorderManager()
            return
        check_sources(self._recorder_configs[False], model, _SIDES[False])
        super().prepare_from_teacher(model)
        if not self.deliveries.deliveries:  # these may take data anywhere in the model
            stop_when_recorded(self.teacher_recorders, self._needed_records, model)

    def _needed_records(self) -> dict[str, int]:
        """Return how many records of each of the teacher's recorders this step needs."""
        needed: dict[str, int] = {}
        for request in self._requests():
            for name in () if request.info["from_student"] else request.recorders:
                needed[name] = max(needed.get(name, 0), request.info.get("record_idx", 0) + 1)
        return needed

    def _requests(self) -> Iterator[RecordRequest]:
        for loss in filter(self._counts, self.loss_forward_mappings):
            yield from self._arguments(loss).values()
        if self._adds_targets:
            yield self._extra

    def _arguments(self, loss: str) -> dict[str, RecordRequest]:
        arguments = self.loss_forward_mappings[loss]
        return {name: RecordRequest(info, f"{_MAPPINGS}.{loss}.{name}") for name, info in arguments.items()}

    @torch.no_grad()
    def infer_channels(self) -> None:
        """Build the layers of losses whose channels depend on the recorded feature maps.

        A loss that still waits is an error: it would be built in a step, when the optimizer exists already.
        """
        for loss in self.loss_forward_mappings:
            module = self.distill_losses[loss]
            if not getattr(module, "waiting", False):
                continue
            arguments, reader = self._arguments(loss).items(), self.reader
            recorded = {name: reader.read(each) for name, each in arguments if reader.is_recorded(each)}
            module.infer_channels(**recorded)
            if module.waiting:
                raise UserError(
                    f"distiller.distill_losses.{loss} takes its channels from feature maps; a run without "
                    "ground truth recorded none. Record modules that run in mode='tensor' too."
                )
        self.reader.clear()

    def consume_teacher_records(self) -> None:
        """Do what needs the teacher's records alone, and release the others."""
        self.reader.consume_teacher_records(self._requests())

    def compute_distill_losses(self) -> dict[str, Tensor]:
        """Compute the losses that count, multiplied by their factors."""
        losses: dict[str, Tensor] = {}
        for loss in filter(self._counts, self.loss_forward_mappings):
            module, names = self.distill_losses[loss], self._loss_names[loss]
            if hasattr(module, "loss_names"):
                module.factors = {name: self.factors[name] for name in names}
            arguments = {name: self.reader.read(request) for name, request in self._arguments(loss).items()}
            value = module(**arguments)
            parts = value if hasattr(module, "loss_names") else {loss: value}
            for name, part in parts.items():
                losses.update(_scaled(name, part, self.factors[name]))
        self.reader.clear()
        return losses

    def with_extra_targets(self, samples: Any, inputs: Tensor) -> Any:
        """Return the samples of (B, 3, H, W) inputs with the teacher's extra targets, if they are on."""
        if not self._adds_targets:
            return samples
        assert self.extra_targets is not None
        return self.extra_targets(samples, self.reader.read(self._extra), inputs.shape[2:])


def _scaled(loss: str, value: Any, factor: float) -> dict[str, Tensor]:
    """Name and scale what a loss returned; mmengine trains on what has 'loss' in its name."""
    if not isinstance(value, dict):
        return {loss: value * factor}
    stem = loss.replace("loss_", "").replace("loss", "")
    return {
        f"{stem}.{name}": part * factor if "loss" in name else part.detach() for name, part in value.items()
    }
