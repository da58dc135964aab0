"""Compare the config's classes with the categories of a COCO file.

mmdet's CocoDataset numbers the categories that the config names in the order of the *file*. If a class is
missing from the file, or the order differs, annotations silently get the label of another class.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ibkd_mm.data_check.coco_file import CocoFile
from ibkd_mm.data_check.findings import Fault
from ibkd_mm.data_check.values import join_limited

_MAX_NAMES = 5


def used_category_ids(coco: CocoFile, classes: Any) -> list[Any]:
    """Return the ids of the categories that CocoDataset uses, in the order of their labels."""
    if classes is None:
        return []
    return [entry["id"] for entry in coco.categories if not len(classes) or entry["name"] in classes]


def find_class_faults(coco: CocoFile, classes: Any) -> Iterator[Fault]:
    """Compare the names of classes and categories, and the labels that CocoDataset gives them."""
    if isinstance(classes, str):
        yield "class-setting", f"found {classes!r}; write a list of one name as ('{classes}',) with a comma"
        return
    if classes is not None and not len(classes):
        return  # then CocoDataset uses every category
    names = [entry["name"] for entry in coco.categories]
    if not set(names).intersection(classes or ()):
        yield "class-none", f"the file has {_join(names)}, the config {_join(classes or ())}"
        return
    counts = Counter(annotation["category_id"] for annotation in coco.annotations)
    for entry in coco.categories:
        if entry["name"] not in classes:
            yield "class-unknown", f"{entry['name']!r} with {counts[entry['id']]} annotations"
    for name in classes:
        if name not in names:
            yield "class-absent", repr(name)
    for label, name in enumerate(name for name in names if name in classes):
        expected = classes[label] if label < len(classes) else None
        if expected != name:
            yield "class-shifted", f"{name!r} gets label {label}, which the config calls {expected!r}"


def _join(names: Any) -> str:
    return join_limited([repr(name) for name in names], _MAX_NAMES) or "none"
