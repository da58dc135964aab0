"""Many files read by several processes, with a line that says how far it is."""

import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import cv2
from mmengine.utils import ProgressBar

from ibkd_mm.data_check.images import Picture, Task, read_picture
from ibkd_mm.errors import UserError
from ibkd_mm.utils.cores import usable_cores

_FILES_A_WORKER = 100
"""Fewer are not worth another process."""

_CHUNK = 8
_SECONDS_BETWEEN = {True: 0.2, False: 30.0}
"""How often the line is written, on a terminal and into a log."""


def read_pictures(tasks: Iterable[Task], workers: int | None = None) -> dict[Task, Picture]:
    """Read every file once.

    Args:
        tasks: the files; what occurs several times is read once.
        workers: how many processes read; else one a core.
    """
    todo = list(dict.fromkeys(tasks))
    workers = min(workers or usable_cores(), max(1, len(todo) // _FILES_A_WORKER))
    if workers <= 1:
        return dict(zip(todo, _shown(map(read_picture, todo), len(todo)), strict=True))
    # fork, because spawned workers would import all of OpenMMLab first; they run no threads of their own
    with ProcessPoolExecutor(workers, get_context("fork"), cv2.setNumThreads, (0,)) as pool:
        try:
            found = pool.map(read_picture, todo, chunksize=_CHUNK)
            return dict(zip(todo, _shown(found, len(todo)), strict=True))
        except BrokenProcessPool as error:
            raise UserError(
                f"One of {workers} processes that read images was killed. Is the memory full? "
                "Use less of them with --workers."
            ) from error


def _shown(pictures: Iterable[Picture], total: int) -> Iterator[Picture]:
    """Pass pictures on and write how many there were, how fast, and how long the rest will take."""
    if not total:
        return
    bar = ProgressBar(total, file=sys.stderr)
    unseen, written = 0, time.monotonic()
    interval = _SECONDS_BETWEEN[sys.stderr.isatty()]
    for picture in pictures:
        yield picture
        unseen += 1
        if time.monotonic() - written > interval:
            bar.update(unseen)
            unseen, written = 0, time.monotonic()
    if unseen:
        bar.update(unseen)
    sys.stderr.write("\n")
