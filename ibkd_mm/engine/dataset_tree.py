"""Walk over built datasets and transforms that wrap each other."""

from collections.abc import Iterator
from typing import Any


def walk_datasets(dataset: Any) -> Iterator[Any]:
    """Yield a dataset and all datasets inside it, the outer before the inner, each once."""
    return _walk(dataset, "dataset", "datasets")


def walk_transforms(*datasets: Any) -> Iterator[Any]:
    """Yield the transforms in the pipelines of datasets, and transforms inside transforms, each once."""
    return _walk([getattr(dataset, "pipeline", None) for dataset in datasets], "pipeline", "transforms")


def _walk(start: Any, *attributes: str) -> Iterator[Any]:
    visited: set[int] = set()
    stack = [start]
    while stack:
        node = stack.pop()
        if isinstance(node, list | tuple):
            stack += node
        elif node is not None and id(node) not in visited:
            visited.add(id(node))
            yield node
            stack += [getattr(node, name, None) for name in attributes]
