"""The records of a training step, as the arguments of losses request them."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mmrazor.models.task_modules import RecorderManager
from torch import nn

from ibkd_mm.errors import UserError


class RecordRequest(NamedTuple):
    """One argument of a loss: which record it is, and which connector it goes through."""

    info: Mapping[str, Any]
    where: str  # the config's key, for messages

    @property
    def recorders(self) -> list[str]:
        """Names of the recorders; the argument is a list of records where the config has a list of names."""
        names = self.info["recorder"]
        return list(names) if isinstance(names, list | tuple) else [names]

    @property
    def key(self) -> tuple[Any, ...]:
        """Identify the record and its connector."""
        names = ("connector", "from_student", "record_idx", "data_idx")
        return (*self.recorders, *map(self.info.get, names))


class RecordReader:
    """Reads records and runs connectors, each once a step for all that request the same."""

    def __init__(self, student: RecorderManager, teacher: RecorderManager, connectors: nn.ModuleDict) -> None:
        self.managers = {True: student, False: teacher}
        self.connectors = connectors
        self._connected: dict[tuple[Any, ...], Any] = {}

    def read(self, request: RecordRequest) -> Any:
        """Return the record, through its connector if it has one."""
        info = request.info
        if "connector" not in info:
            return self._record(request)
        if request.key not in self._connected:
            self._connected[request.key] = self.connectors[info["connector"]](self._record(request))
        value = self._connected[request.key]
        return value[info["connector_idx"]] if "connector_idx" in info else value

    def consume_teacher_records(self, requests: Iterable[RecordRequest]) -> None:
        """Run the connectors that need the teacher alone, and release records that nothing else needs.

        The outputs of a decoder are gigabytes at full size, what a connector makes of them is small.
        """
        needed = set()
        for request in requests:
            if request.info["from_student"]:
                continue
            if "connector" in request.info:
                self.read(request)
            else:
                needed.update(request.recorders)
        for name, recorder in self.managers[False].recorders.items():
            if name not in needed:
                recorder.reset_data_buffer()

    def is_recorded(self, request: RecordRequest) -> bool:
        """Return whether there is a record of all that the request needs."""
        recorders = self.managers[request.info["from_student"]].recorders
        return all(name in recorders and recorders[name].data_buffer for name in request.recorders)

    def clear(self) -> None:
        """Release everything: it would hold its memory until the next step."""
        self._connected.clear()
        for manager in self.managers.values():
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()

    def _record(self, request: RecordRequest) -> Any:
        records = [self._one(name, request) for name in request.recorders]
        record = records if isinstance(request.info["recorder"], list | tuple) else records[0]
        index = request.info.get("data_idx")
        if index is None:
            return record
        if not isinstance(record, list | tuple) or not -len(record) <= index < len(record):
            size = f"{len(record)} parts" if isinstance(record, list | tuple) else type(record).__name__
            raise UserError(f"{request.where}: expected a record with part data_idx={index}, found {size}.")
        return record[index]

    def _one(self, name: str, request: RecordRequest) -> Any:
        recorder = self.managers[request.info["from_student"]].get_recorder(name)
        number, count = request.info.get("record_idx", 0), len(recorder.data_buffer)
        if count <= number:
            raise UserError(
                f"{request.where}: expected record_idx={number} of '{name}', which recorded {count} times in "
                f"this step.{getattr(recorder, 'hint', '')}"
            )
        return recorder.data_buffer[number]
