"""One training of a quickstart, in a process of its own that is given CONFIG and WORK_DIR.

It says how far it is in lines of JSON, and ends its step, saves and leaves as soon as nobody holds its input
open: that is how it is stopped, and it is so also where its parent was killed.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, TextIO

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.apis.train import train
from ibkd_mm.config.load import load_config
from ibkd_mm.engine.checkpoint.latest import last_checkpoint
from ibkd_mm.errors import UserError
from ibkd_mm.quickstart.console import OwnWarnings
from ibkd_mm.quickstart.worker_pool import FINISHED, REFUSED
from ibkd_mm.utils.atomic import atomic_write, file_lock

Tell = Callable[..., None]


class ProgressHook(Hook):
    """Tells how far a training is, and what is warned of in it.

    Acts before_train and after_train_iter.
    """

    priority = "VERY_LOW"

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def before_train(self, runner: Runner) -> None:
        """Tell where it begins, and listen to warnings."""
        runner.logger.addHandler(OwnWarnings(lambda text: self._tell(warning=text)))
        self._tell(step=runner.iter)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Tell of a step."""
        self._tell(step=runner.iter + 1)


def learn(config: Path, work_dir: Path, tell: Tell) -> None:
    """Train, or go on with that, until the training has been judged at its end."""
    # one that is still saving, since its parent was killed, comes first
    with file_lock(work_dir / "training"):
        ready = load_config(config)
        last = work_dir / f"iter_{ready.train_cfg.max_iters}.pth"
        if (found := last_checkpoint(work_dir)) and found.name == last.name:
            # killed while it was judged: that is done behind the last step, and never by itself
            last.unlink(missing_ok=True)
        train(ready, work_dir=str(work_dir), resume="auto", hooks=[ProgressHook(tell)])
        with atomic_write(work_dir / FINISHED) as partial:
            partial.write_text(f"{last.name}\n")


def _end_with_input() -> None:
    while os.read(0, 1):  # sys.stdin would be locked meanwhile, and workers close it when they begin
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _own_output() -> TextIO:
    """Keep the way to the parent to ourselves: what is printed goes where errors go."""
    way = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return way


def main(argv: Sequence[str]) -> int:
    """Train as the parent says, and return the exit code."""
    config, work_dir = map(Path, argv)
    way = _own_output()
    Thread(target=_end_with_input, daemon=True).start()

    def tell(**what: Any) -> None:
        with suppress(OSError):  # nobody listens any more; saving comes first
            print(json.dumps(what), file=way, flush=True)

    try:
        learn(config, work_dir, tell)
    except UserError as error:
        tell(error=str(error))
        return REFUSED
    return 0
