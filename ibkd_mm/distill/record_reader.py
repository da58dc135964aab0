"""What was recorded in a step, as the arguments of losses ask for it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mmrazor.models.task_modules import RecorderManager
from torch import nn

from ibkd_mm.distill.mapping_checks import CONNECTING, at, chain, flattened, listed
from ibkd_mm.errors import UserError


class RecordRequest(NamedTuple):
    """An argument that is asked for."""

    info: Mapping[str, Any]
    """Which record it is, and what connects it."""
    others: Mapping[str, Mapping[str, Any]]
    """The other arguments of the loss, which connectors may lead towards."""
    where: str
    """The config's key, for messages."""

    @property
    def of_teacher_alone(self) -> bool:
        """Whether connectors make it of nothing but the teacher's records."""
        targets = (self.others[towards] for _, towards in chain(self.info) if towards is not None)
        return "connector" in self.info and not any(one["from_student"] for one in (self.info, *targets))


class RecordReader:
    """Reads records and has connectors work on them, each once a step for all that ask the same.

    Args:
        student: recorders.
        teacher: recorders.
        connectors: by name.
    """

    def __init__(self, student: RecorderManager, teacher: RecorderManager, connectors: nn.ModuleDict) -> None:
        self.managers = {True: student, False: teacher}
        self.connectors = connectors
        self._made: dict[str, Any] = {}

    def read(self, asked: RecordRequest) -> Any:
        """Get what is asked for."""
        info, others, where = asked
        steps: list[Any] = [{name: info[name] for name in info if name not in CONNECTING}]
        todo: list[tuple[str, str | None, str]] = []
        for connector, towards in chain(info):
            steps.append((connector, None if towards is None else others[towards]))
            todo.append((connector, towards, repr(steps)))
        done = max((number for number, (*_, key) in enumerate(todo, 1) if key in self._made), default=0)
        value = self._made[todo[done - 1][2]] if done else self._record(info, where)
        for connector, towards, key in todo[done:]:
            given = [value]
            if towards is not None:
                target = RecordRequest(others[towards], others, f"{where.rpartition('.')[0]}.{towards}")
                given.append(self.read(target))
            value = self._made[key] = self.connectors[connector](*given)
        return value[info["connector_idx"]] if "connector_idx" in info else value

    def consume_teacher_records(self, asked: Iterable[RecordRequest]) -> None:
        """Have done what needs the teacher alone, and let go of records that nobody else waits for.

        A decoder's outputs are gigabytes at full size, and what is made of them is small.
        """
        waiting = set()
        for each in asked:
            if each.of_teacher_alone:
                self.read(each)
            elif not each.info["from_student"]:
                waiting.update(listed(each.info["recorder"]))
        for name, recorder in self.managers[False].recorders.items():
            if name not in waiting:
                recorder.reset_data_buffer()

    def is_recorded(self, asked: RecordRequest) -> bool:
        """Tell whether there is a record of all that it needs."""
        targets = (asked.others[towards] for _, towards in chain(asked.info) if towards is not None)
        return all(
            name in self.managers[info["from_student"]].recorders
            and self.managers[info["from_student"]].get_recorder(name).data_buffer
            for info in (asked.info, *targets)
            for name in listed(info["recorder"])
        )

    def forget(self) -> None:
        """Let go of everything: it would hold its memory until the next step."""
        self._made.clear()
        for manager in self.managers.values():
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()

    def _record(self, info: Mapping[str, Any], where: str) -> Any:
        names, place, number = info["recorder"], info.get("data_idx"), info.get("record_idx", 0)
        found = [self._buffer(name, info["from_student"], number, where)[number] for name in listed(names)]
        record = flattened(found) if isinstance(names, list | tuple) else found[0]
        if place is None:
            return record
        if isinstance(place, list | tuple):
            return [at(record, each, where) for each in place]
        return at(record, place, where)

    def _buffer(self, name: str, from_student: bool, number: int, where: str) -> list[Any]:
        recorder = self.managers[from_student].get_recorder(name)
        if len(recorder.data_buffer) <= number:
            raise UserError(
                f"{where}: '{name}' recorded {len(recorder.data_buffer)} times in this step, and number "
                f"{number} is wanted.{getattr(recorder, 'hint', '')}"
            )
        return recorder.data_buffer
