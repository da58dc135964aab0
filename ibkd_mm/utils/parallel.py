"""Map a function over many items with several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

import cv2

from ibkd_mm.errors import UserError
from ibkd_mm.utils.cores import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 8
_ITEMS_PER_WORKER = 100  # with fewer, starting another process costs more time than it saves


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for each item in order, from at most `workers` processes, or one per core."""
    workers = min(workers or usable_cores(), max(1, len(items) // _ITEMS_PER_WORKER))
    if workers <= 1:
        yield from map(function, items)
        return
    # fork, because spawned workers would import all of OpenMMLab first; OpenCV must not start threads in them
    with ProcessPoolExecutor(workers, get_context("fork"), cv2.setNumThreads, (0,)) as pool:
        try:
            yield from pool.map(function, items, chunksize=_CHUNK)
        except BrokenProcessPool as error:
            raise UserError(
                f"One of {workers} worker processes was killed. Is the memory full? "
                "`ibkd check` starts fewer of them with --workers."
            ) from error
