"""What stands in data sets that are wrapped around each other."""

from collections.abc import Iterator
from typing import Any


def walk_datasets(dataset: Any) -> Iterator[Any]:
    """Walk through data sets within data sets, the outer before the inner; each is given once."""
    return _walk(dataset, "dataset", "datasets")


def walk_transforms(*datasets: Any) -> Iterator[Any]:
    """Walk through the pipelines of these data sets, and transforms within transforms; each is given once."""
    return _walk([getattr(each, "pipeline", None) for each in datasets], "pipeline", "transforms")


def _walk(start: Any, *names: str) -> Iterator[Any]:
    """Give what there is and what it holds under these names, one thing or several."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list | tuple):
            waiting += node
        elif node is not None and id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += [getattr(node, name, None) for name in names]
