"""Which record an argument of a loss is, as the config writes it."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from torch import nn

from ibkd_mm.errors import UserError, did_you_mean

Mappings = Mapping[str, Mapping[str, Mapping[str, Any]]]

CONNECTING = ("connector", "connector_idx", "towards")
_KEYS = ("recorder", "from_student", "record_idx", "data_idx", *CONNECTING)


def check_names(losses: Mapping[str, Any], mappings: Mappings) -> None:
    """Refuse a loss that would never be computed, or never counted."""
    for name in losses:
        if "loss" not in name:
            raise UserError(
                f"distiller.distill_losses.{name}: only what has 'loss' in its name is trained by. "
                f"Call it loss_{name}."
            )
        if name not in mappings:
            raise UserError(
                f"distiller.loss_forward_mappings has nothing for the loss {name}."
                f"{did_you_mean(name, mappings)}"
            )
    for name in mappings:
        if name not in losses:
            raise UserError(
                f"distiller.loss_forward_mappings.{name}: there is no such loss in distill_losses."
                f"{did_you_mean(name, losses)}"
            )


def check_records(
    mappings: Mappings, recorders: Mapping[bool, Mapping[str, Any]], connectors: Mapping[str, Any]
) -> None:
    """Refuse an argument that no recorder or connector gives.

    Args:
        mappings: of losses to their arguments.
        recorders: the student's under True, the teacher's under False.
        connectors: by name.
    """
    for loss, arguments in mappings.items():
        for name, info in arguments.items():
            where = f"distiller.loss_forward_mappings.{loss}.{name}"
            _check_record(where, info, arguments, recorders, connectors)


def check_extra(
    info: Mapping[str, Any] | None,
    recorders: Mapping[bool, Mapping[str, Any]],
    connectors: Mapping[str, Any],
) -> None:
    """Refuse extra targets that are of no teacher that runs."""
    where = "distiller.extra_targets.teacher"
    if info is None:
        raise UserError(f"{where} is lacking: which record the teacher's instances are, as in a mapping.")
    _check_record(where, info, {}, recorders, connectors)
    if info["from_student"]:
        raise UserError(
            f"{where}: extra targets are wanted before the student runs, so from_student=False alone. From a "
            "cache, LoadTeacherInstances(pseudo_label_thr=0.5) gives them, but for those that overlap a true one."
        )


def _check_record(
    where: str,
    info: Mapping[str, Any],
    arguments: Mapping[str, Any],
    recorders: Mapping[bool, Mapping[str, Any]],
    connectors: Mapping[str, Any],
) -> None:
    for key in info:
        if key not in _KEYS:
            raise UserError(f"{where}: unknown key '{key}'.{did_you_mean(key, _KEYS)}")
    if not isinstance(info.get("from_student"), bool) or "recorder" not in info:
        raise UserError(f"{where} needs a recorder, and from_student=True or False.")
    _check_places(where, info)
    side = "student_recorders" if info["from_student"] else "teacher_recorders"
    for recorder in listed(info["recorder"]):
        _check_known(where, side, recorder, recorders[info["from_student"]])
    for connector, target in chain(info):
        _check_known(where, "connectors", connector, connectors)
        if target is not None:
            _check_known(where, f"{where.split('.')[-2]}'s arguments", target, arguments)
            if "towards" in arguments[target]:
                raise UserError(f"{where}: towards '{target}', which leads towards another itself.")


def _check_places(where: str, info: Mapping[str, Any]) -> None:
    number = info.get("record_idx", 0)
    if not isinstance(number, int) or number < 0:
        raise UserError(
            f"{where}: record_idx is 0 for the first time that a source is recorded in a step, 1 for the "
            f"second; found {number!r}."
        )
    towards = listed(info["towards"]) if "towards" in info else []
    if len(towards) > len(chain(info)) or ("connector_idx" in info and "connector" not in info):
        raise UserError(f"{where}: towards and connector_idx are of a connector; found one too few.")


def _check_known(where: str, among: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise UserError(
            f"{where}: there is no '{name}' among {among} ({', '.join(known) or 'none'})."
            f"{did_you_mean(name, known)}"
        )


def check_signature(loss: str, module: nn.Module, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that nobody takes, and a loss that lacks what it needs."""
    parameters = inspect.signature(module.forward).parameters
    needed = {name for name, one in parameters.items() if one.default is one.empty}
    targets = {target for info in arguments.values() if info for _, target in chain(info)}
    found = set(arguments)
    if found - set(parameters) - targets or needed - found:
        raise UserError(
            f"distiller.loss_forward_mappings.{loss}: {type(module).__name__} takes {', '.join(parameters)}; "
            f"found {', '.join(arguments)}."
        )


def taken(module: nn.Module, arguments: Iterable[str]) -> list[str]:
    """Name the arguments that a loss takes; the others are only led towards."""
    parameters = inspect.signature(module.forward).parameters
    return [name for name in arguments if name in parameters]


def chain(info: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Pair the connectors that a record goes through with the argument that each leads towards."""
    names = listed(info["connector"]) if "connector" in info else []
    targets = listed(info["towards"]) if "towards" in info else []
    return list(zip_longest(names, targets[: len(names)]))


def listed(one: Any) -> list[Any]:
    """Take one as a list of one."""
    return list(one) if isinstance(one, list | tuple) else [one]


def flattened(records: Sequence[Any]) -> list[Any]:
    """Lay records out one after the other, those that are several themselves too."""
    return [part for record in records for part in listed(record)]


def at(record: Any, place: Any, where: str) -> Any:
    """Take what lies at a place: an index, or indices one inside the other."""
    for index in listed(place):
        fits = isinstance(record, list | tuple) and isinstance(index, int)
        if not fits or not -len(record) <= index < len(record):
            size = f"{len(record)} parts" if isinstance(record, list | tuple) else type(record).__name__
            raise UserError(f"{where}: data_idx {place} leads nowhere, found {size}.")
        record = record[index]
    return record
