"""mmrazor's recorders, checked by name and able to stop a forward pass when all is recorded; and our own."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmrazor.models.task_modules import RecorderManager
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS as RAZOR_TASK_UTILS
from torch import nn

from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.registry import TASK_UTILS

_BY_MODULE = ("ModuleOutputs", "ModuleInputs")


class StopForward(Exception):  # noqa: N818  (not an error: it ends a forward pass whose rest nothing needs)
    """Raised inside a model when everything that is needed has been recorded."""


def check_kinds(recorders: Mapping[str, Any], side: str) -> None:
    """Refuse a recorder of an unknown type or without a source."""
    for name, recorder in recorders.items():
        where, kind = f"distiller.{side}.{name}", str(recorder.get("type"))
        if "source" not in recorder:
            raise UserError(f"{where} has no source: the module, method or field that it records.")
        if TASK_UTILS.get(f"{kind}Recorder") is None and RAZOR_TASK_UTILS.get(f"{kind}Recorder") is None:
            known = [key.removesuffix("Recorder") for key in RAZOR_TASK_UTILS.module_dict]
            raise UserError(f"{where}: no recorder of type '{kind}'.{did_you_mean(kind, known)}")


def check_sources(recorders: Mapping[str, Any], model: nn.Module, side: str) -> None:
    """Refuse a recorder of a module that the model does not have."""
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    for name, recorder in recorders.items():
        kind, source = recorder["type"].removeprefix("mmrazor."), recorder["source"]
        known: Iterable[str] = modules if kind in _BY_MODULE else parameters if kind == "Parameter" else ()
        if known and source not in known:
            where = f"distiller.{side}.{name}"
            raise UserError(f"{where}: {type(model).__name__} has no '{source}'.{_nearest(source, known)}")


def _nearest(source: str, known: Iterable[str]) -> str:
    """Name the nearest path, or the children of the longest part of it that exists."""
    names = [name for name in known if name]
    hint = did_you_mean(source, names, cutoff=0.75)
    if hint:
        return hint
    parts = source.split(".")
    for length in range(len(parts) - 1, -1, -1):
        parent = ".".join(parts[:length])
        if not parent or parent in names:
            start = f"{parent}." if parent else ""
            children = {name[len(start) :].split(".")[0] for name in names if name.startswith(start)}
            return f" {parent or 'It'} has {', '.join(sorted(children)) or 'no parts'}."
    return ""


def stop_when_recorded(
    manager: RecorderManager, needed: Callable[[], Mapping[str, int]], model: nn.Module
) -> None:
    """Stop a model's forward pass after the last record that is needed, while its recorders record.

    Only if all needed records are outputs of modules inside the model: others may come at any time. `needed`
    returns how many records of each recorder this step needs.
    """
    recorders = manager.recorders.items()
    inside = {name: one for name, one in recorders if hasattr(one, "forward_hook") and one.source}
    for source in {recorder.source for recorder in inside.values()}:
        model.get_submodule(source).register_forward_hook(_StopHook(inside, needed))


@dataclass(frozen=True)
class _StopHook:
    """A forward hook; not a closure, so that a copied model uses its own records and one can be pickled."""

    inside: Mapping[str, Any]
    needed: Callable[[], Mapping[str, int]]

    def __call__(self, *_: Any) -> None:
        needed = self.needed()
        if needed and all(
            name in self.inside
            and self.inside[name].recording
            and len(self.inside[name].data_buffer) >= count
            for name, count in needed.items()
        ):
            raise StopForward


@TASK_UTILS.register_module()
class DataSamplesRecorder(BaseRecorder):
    """Records the field `source` of each data sample of a call; in a config: `type='ibkd_mm.DataSamples'`."""

    hint = " Are LoadTeacherInstances and SplitTeacherInstances in the train pipeline?"

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._recording = False

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        """Listen to the model's calls."""
        assert model is not None
        model.register_forward_pre_hook(self._record)

    def _record(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        samples = arguments[1] if self._recording and len(arguments) > 1 else None
        if samples and all(self.source in sample for sample in samples):
            self.data_buffer.append([getattr(sample, self.source) for sample in samples])

    def __enter__(self) -> None:
        super().__enter__()
        self._recording = True

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._recording = False
