"""mmrazor's recorders, found by name or refused with the nearest name, and stopped when all is recorded."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmrazor.models.task_modules import RecorderManager
from mmrazor.registry import TASK_UTILS as RAZOR_TASK_UTILS
from torch import nn

from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.registry import TASK_UTILS

_BY_MODULE = ("ModuleOutputs", "ModuleInputs")


class StopForward(Exception):  # noqa: N818  (no error: it ends a forward whose rest nobody wants)
    """Raised inside a model when all that is asked for is recorded."""


def check_kinds(recorders: Mapping[str, Any], of: str) -> None:
    """Refuse a recorder of no kind that there is, or without a source.

    Args:
        recorders: as in a config, by name.
        of: how the config calls them.
    """
    for name, recorder in recorders.items():
        where, kind = f"distiller.{of}.{name}", str(recorder.get("type"))
        if "source" not in recorder:
            raise UserError(f"{where} has no source: which module, method or field it is to record.")
        if TASK_UTILS.get(f"{kind}Recorder") is None and RAZOR_TASK_UTILS.get(f"{kind}Recorder") is None:
            known = [each.removesuffix("Recorder") for each in RAZOR_TASK_UTILS.module_dict]
            raise UserError(f"{where}: no recorder of type '{kind}'.{did_you_mean(kind, known)}")


def check_sources(recorders: Mapping[str, Any], model: nn.Module, of: str) -> None:
    """Refuse a recorder of a module that the model has not.

    Args:
        recorders: as in a config, by name.
        model: that they are for.
        of: how the config calls them: `student_recorders` or `teacher_recorders`.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    for name, recorder in recorders.items():
        kind, source = recorder["type"].removeprefix("mmrazor."), recorder["source"]
        known: Iterable[str] = modules if kind in _BY_MODULE else parameters if kind == "Parameter" else ()
        if known and source not in known:
            raise UserError(
                f"distiller.{of}.{name}: {type(model).__name__} has no '{source}'.{_nearest(source, known)}"
            )


def _nearest(source: str, known: Iterable[str]) -> str:
    """Name the nearest path; else what the longest part of it that does exist leads on to."""
    names = [name for name in known if name]
    hint = did_you_mean(source, names, cutoff=0.75)
    if hint:
        return hint
    parts = source.split(".")
    for length in range(len(parts) - 1, -1, -1):
        inside = ".".join(parts[:length])
        if not inside or inside in names:
            start = f"{inside}." if inside else ""
            next_parts = {name[len(start) :].split(".")[0] for name in names if name.startswith(start)}
            return f" {inside or 'It'} has {', '.join(sorted(next_parts)) or 'no parts'}."
    return ""


def stop_when_recorded(
    manager: RecorderManager, wanted: Callable[[], Mapping[str, int]], model: nn.Module
) -> None:
    """Let a model's forward end with the last record that is wanted of it, while its recorders record.

    Where all of them are outputs of modules inside it: what the others record may come at any time.

    Args:
        manager: of the recorders, initialised.
        wanted: says how many records of each are wanted at the moment.
        model: that they record.
    """
    recorders = manager.recorders.items()
    inside = {name: one for name, one in recorders if hasattr(one, "forward_hook") and one.source}
    modules = dict(model.named_modules())
    for source in {recorder.source for recorder in inside.values()}:
        modules[source].register_forward_hook(_Stop(inside, wanted))


@dataclass(frozen=True)
class _Stop:
    """A forward hook; no closure, so that a copied model stops by its own records, and one can be pickled."""

    inside: Mapping[str, Any]
    wanted: Callable[[], Mapping[str, int]]

    def __call__(self, *_: Any) -> None:
        asked = self.wanted()
        if asked and all(
            name in self.inside
            and self.inside[name].recording
            and len(self.inside[name].data_buffer) >= count
            for name, count in asked.items()
        ):
            raise StopForward
