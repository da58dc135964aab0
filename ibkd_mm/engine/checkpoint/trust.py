"""The checkpoints that the user trusts although reading them runs the code inside them."""

import logging
import os
from functools import cache
from pathlib import Path

from mmengine.logging import print_log

VARIABLE = "IBKD_TRUST_CHECKPOINT"
"""Files, separated as in PATH; an environment variable reaches every process of a run."""


def is_trusted(path: Path) -> bool:
    """Return whether the user named this file; folders and patterns do not count."""
    names = os.environ.get(VARIABLE, "").split(os.pathsep)
    return path.resolve() in {Path(name).expanduser().resolve() for name in names if name}


def trust_hint(path: Path) -> str:
    """Return the remedy for a file that was refused."""
    return (
        "If you trust its source, save its state_dict again where it was made, or let its code run here: "
        f"`--trust-checkpoint {path}`, or {VARIABLE}={path.resolve()} in the environment."
    )


@cache
def warn_code_runs(path: Path) -> None:
    """Warn, once per file, that its code runs."""
    print_log(
        f"{path} is trusted (see {VARIABLE}): its code is run. Save its state_dict again.",
        "current",
        logging.WARNING,
    )
