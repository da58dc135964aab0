"""Which refused checkpoints the user has said to trust: reading them runs whatever code they hold."""

import logging
import os
from functools import cache
from pathlib import Path

from mmengine.logging import print_log

VARIABLE = "IBKD_TRUST_CHECKPOINT"
"""Files, separated as in PATH. An environment variable, so that every process of a run has it."""


def is_trusted(path: Path) -> bool:
    """Tell whether this very file was named; a folder or a pattern names no file."""
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    return path.resolve() in {Path(name).expanduser().resolve() for name in named if name}


def trust_hint(path: Path) -> str:
    """Say what to do for a file that was refused."""
    return (
        "If you trust whoever made it, save its state_dict anew where it was made, or let its code run here: "
        f"`--trust-checkpoint {path}`, or {VARIABLE}={path.resolve()} in the environment."
    )


@cache
def warn_code_runs(path: Path) -> None:
    """Say once a file that its code runs."""
    print_log(
        f"{path} is trusted (see {VARIABLE}): the code that it holds is run. Save its state_dict anew.",
        "current",
        logging.WARNING,
    )
