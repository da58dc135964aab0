"""Find the checkpoint that `--resume` continues from."""

import logging
from pathlib import Path

from mmengine.logging import print_log

from ibkd_mm.engine.checkpoint.load import preload_weights
from ibkd_mm.errors import UserError

POINTER, PREEMPTED = "last_checkpoint", "preempted.pth"


def last_checkpoint(work_dir: Path) -> Path | None:
    """Return the checkpoint that was written last, if any."""
    pointer = work_dir / POINTER
    return Path(pointer.read_text().strip()) if pointer.is_file() else None


def find_resumable(work_dir: Path) -> Path | None:
    """Return the newest complete checkpoint, if any, and keep what was read for the load that follows.

    If the last checkpoint is missing or damaged, older ones are tried: a folder may have been moved, and a
    disk may lose data that was synced.
    """
    problems = []
    for candidate in _candidates(work_dir):
        try:
            preload_weights(candidate)
        except UserError as error:
            problems.append(str(error))
        else:
            for problem in problems:
                print_log(f"Skipped: {problem}", "current", logging.WARNING)
            return candidate
    if problems:
        raise UserError("No checkpoint to resume from is complete:\n  " + "\n  ".join(problems))
    return None


def _candidates(work_dir: Path) -> list[Path]:
    target = last_checkpoint(work_dir)
    last = [path for path in (work_dir / target.name, target) if path.is_file()] if target else []
    others = sorted(work_dir.glob("*.pth"), key=lambda path: path.stat().st_mtime, reverse=True)
    return list(dict.fromkeys([*last[:1], *(path for path in others if not path.name.startswith("best_"))]))
