"""How much memory a piece of work takes at its highest, as the system counts it."""

from collections.abc import Callable
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth_during(work: Callable[[], object]) -> int | None:
    """Run it and return by how many bytes this process grew, at the highest, over what it had before.

    Meant for a process that has done nothing else: what others freed before is taken again without growth.
    None where the system does not tell.
    """
    try:
        _RESET.write_text("5")  # the highest so far becomes what is used now
        before = _bytes("VmRSS")
    except (OSError, KeyError):
        work()
        return None
    work()
    return max(_bytes("VmHWM") - before, 0)


def _bytes(name: str) -> int:
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(fields[name].split()[0]) * 1024
