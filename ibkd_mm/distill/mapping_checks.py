"""Checks of a distiller's config: every loss, recorder, connector and argument that it names must exist."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from ibkd_mm.distill.record_reader import RecordRequest
from ibkd_mm.errors import UserError, did_you_mean

Mappings = Mapping[str, Mapping[str, Mapping[str, Any]]]
Recorders = Mapping[bool, Mapping[str, Any]]  # the student's under True, the teacher's under False

_KEYS = ("recorder", "from_student", "record_idx", "data_idx", "connector", "connector_idx")


def check_names(losses: Mapping[str, Any], mappings: Mappings) -> None:
    """Refuse a loss that would never be computed or never trained on."""
    for name in losses:
        if "loss" not in name:
            raise UserError(
                f"distiller.distill_losses.{name}: mmengine trains only on entries with 'loss' in their "
                f"name. Rename it to loss_{name}."
            )
        if name not in mappings:
            hint = did_you_mean(name, mappings)
            raise UserError(f"distiller.loss_forward_mappings has no entry for the loss {name}.{hint}")
    for name in mappings:
        if name not in losses:
            hint = did_you_mean(name, losses)
            raise UserError(f"distiller.loss_forward_mappings.{name}: distill_losses has no such loss.{hint}")


def check_records(mappings: Mappings, recorders: Recorders, connectors: Mapping[str, Any]) -> None:
    """Refuse an argument of a loss that no recorder or connector provides."""
    for loss, arguments in mappings.items():
        for name, info in arguments.items():
            _check_record(f"distiller.loss_forward_mappings.{loss}.{name}", info, recorders, connectors)


def check_extra_targets(info: Any, recorders: Recorders, connectors: Mapping[str, Any]) -> None:
    """Refuse extra targets that do not come from a teacher that runs."""
    where = "distiller.extra_targets.teacher"
    if info is None:
        raise UserError(f"{where} is missing: the record of the teacher's instances, as in a mapping.")
    _check_record(where, info, recorders, connectors)
    if info["from_student"]:
        raise UserError(
            f"{where}: expected from_student=False, since extra targets are needed before the student runs. "
            "With a cache, LoadTeacherInstances(pseudo_label_thr=0.5) adds them in the pipeline."
        )


def check_signature(loss: str, module: nn.Module, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a loss does not take, and missing ones that it needs."""
    parameters = inspect.signature(module.forward).parameters
    needed = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    if set(arguments) - set(parameters) or needed - set(arguments):
        raise UserError(
            f"distiller.loss_forward_mappings.{loss}: {type(module).__name__} takes {', '.join(parameters)}; "
            f"found {', '.join(arguments)}."
        )


def _check_record(
    where: str, info: Mapping[str, Any], recorders: Recorders, connectors: Mapping[str, Any]
) -> None:
    for key in info:
        if key not in _KEYS:
            raise UserError(f"{where}: unknown key '{key}'.{did_you_mean(key, _KEYS)}")
    if not isinstance(info.get("from_student"), bool) or "recorder" not in info:
        raise UserError(f"{where} needs a recorder, and from_student=True or False.")
    if "connector_idx" in info and "connector" not in info:
        raise UserError(f"{where}: connector_idx needs a connector.")
    for key in ("record_idx", "data_idx"):
        index = info.get(key, 0)
        if not isinstance(index, int) or (key == "record_idx" and index < 0):
            raise UserError(f"{where}: expected a number as {key}, 0 for the first; found {index!r}.")
    side = "student_recorders" if info["from_student"] else "teacher_recorders"
    for recorder in RecordRequest(info, where).recorders:
        _check_known(where, side, recorder, recorders[info["from_student"]])
    if "connector" in info:
        _check_known(where, "connectors", info["connector"], connectors)


def _check_known(where: str, group: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"{where}: there is no '{name}' among {group} ({', '.join(known) or 'none'}).{hint}")
