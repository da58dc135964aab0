"""How many processes are worth starting."""

import os


def usable_cores() -> int:
    """Count the cores that this process may use, where the system tells, else all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
