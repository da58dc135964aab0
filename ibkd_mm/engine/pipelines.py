"""What stands in data sets that are wrapped around each other."""

from collections.abc import Iterator
from typing import Any


def transforms_of(dataset: Any) -> Iterator[Any]:
    """Walk through data sets within data sets, and transforms within transforms; each is given once."""
    seen: set[int] = set()
    waiting = [(dataset, False)]
    while waiting:
        node, transforms = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, list | tuple):
            waiting += [(each, transforms) for each in node]
            continue
        if transforms:
            yield node
        waiting += [(getattr(node, name, None), transforms) for name in ("dataset", "datasets")]
        waiting += [(getattr(node, name, None), True) for name in ("pipeline", "transforms")]


def innermost(dataset: Any) -> Any:
    """Return the settings of the data set that others are wrapped around, of several the first."""
    while "dataset" in dataset or "datasets" in dataset:
        dataset = dataset["dataset"] if "dataset" in dataset else dataset["datasets"][0]
    return dataset
