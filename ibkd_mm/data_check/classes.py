"""The config's classes against the categories of a COCO file.

mmdet's CocoDataset takes the categories that the config names in the order of the *file* and numbers those. A
class that the file lacks, or another order, gives annotations the label of another class; nothing says so.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ibkd_mm.data_check.coco_file import CocoFile
from ibkd_mm.data_check.findings import Fault


def known_categories(coco: CocoFile, classes: Any) -> list[Any]:
    """Return the ids of the categories that CocoDataset uses, in the order of their labels."""
    if classes is None:
        return []
    return [entry["id"] for entry in coco.categories if not len(classes) or entry["name"] in classes]


def class_faults(coco: CocoFile, classes: Any) -> Iterator[Fault]:
    """Compare the classes by name, and the labels that they will get."""
    if isinstance(classes, str):
        yield "class-setting", f"found {classes!r}: a list of one is written ('{classes}',), with a comma"
        return
    if classes is not None and not len(classes):
        return  # then CocoDataset takes every category
    names = [entry["name"] for entry in coco.categories]
    if not set(names).intersection(classes or ()):
        found = f"the file has {_listed(names)}, the config {_listed(list(classes or ()))}"
        yield "class-none", found
        return
    used = Counter(annotation["category_id"] for annotation in coco.annotations)
    for entry in coco.categories:
        if entry["name"] not in classes:
            yield "class-unknown", f"{entry['name']!r} with {used[entry['id']]} annotations"
    for name in classes:
        if name not in names:
            yield "class-absent", repr(name)
    kept = [name for name in names if name in classes]
    for label, name in enumerate(kept):
        meant = classes[label] if label < len(classes) else None
        if meant != name:
            yield "class-shifted", f"{name!r} gets label {label}, which the config calls {meant!r}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
