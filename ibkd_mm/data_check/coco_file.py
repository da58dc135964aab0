"""A COCO file by itself: readable, well-formed, with ids that are unique and lead somewhere."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import mmengine.fileio as fileio

from ibkd_mm.data_check.findings import Report
from ibkd_mm.data_check.values import is_id, is_text, shortly

Entry = dict[str, Any]

# Without these an entry cannot be looked at further. What else is needed is looked at with the image.
_NEEDED = {
    "images": {"id": is_id, "file_name": is_text},
    "annotations": {"id": is_id, "image_id": is_id, "category_id": is_id},
    "categories": {"id": is_id, "name": is_text},
}


@dataclass
class CocoFile:
    """The entries that can be looked at further."""

    images: list[Entry]
    annotations: list[Entry]
    categories: list[Entry]

    def by_image(self) -> dict[Any, list[Entry]]:
        """Group the annotations by the ids of their images."""
        groups: dict[Any, list[Entry]] = defaultdict(list)
        for annotation in self.annotations:
            groups[annotation["image_id"]].append(annotation)
        return groups


def read_coco(path: str, backend: dict[str, Any] | None, report: Report, labelled: bool) -> CocoFile | None:
    """Read a file and enter into the report what is wrong with it; None where it cannot be read.

    Args:
        path: the annotation file.
        backend: mmengine's arguments for reading files from elsewhere than the disk.
        report: gets the findings.
        labelled: whether the file must have annotations.
    """
    data, reason = _load(path, backend)
    if not reason and not isinstance(data, dict):
        reason = f"expected a JSON object, found {type(data).__name__}"
    elif not reason:
        if not labelled:
            data.setdefault("annotations", [])
        lacking = [key for key in _NEEDED if not isinstance(data.get(key), list)]
        reason = f"it has no list of {' and '.join(lacking)}" if lacking else ""
    if reason:
        report.add([("dataset-unreadable", reason)], file=path)
        return None
    return CocoFile(**{key: _well_formed(key, data[key], report) for key in _NEEDED})


def check_ids(coco: CocoFile, report: Report) -> None:
    """Find ids and names that occur twice, and annotations that lead nowhere."""
    for value, entries in _repeated(coco.images, "id"):
        report.add([("image-id-duplicate", f"of {_listed(entries, 'file_name')}")], image=value)
    for value, entries in _repeated(coco.images, "file_name"):
        report.add([("image-file-duplicate", f"of the images {_listed(entries, 'id')}")], file=value)
    for value, entries in _repeated(coco.annotations, "id"):
        fault = ("annotation-id-duplicate", f"in the images {_listed(entries, 'image_id')}")
        report.add([fault], annotation=value)
    for value, entries in _repeated(coco.categories, "id"):
        report.add([("category-duplicate", f"id {value!r} of {_listed(entries, 'name')}")])
    for value, entries in _repeated(coco.categories, "name"):
        report.add([("category-duplicate", f"name {value!r} of the ids {_listed(entries, 'id')}")])
    _check_references(coco, "image", coco.images, report)
    _check_references(coco, "category", coco.categories, report)


def _load(path: str, backend: dict[str, Any] | None) -> tuple[Any, str]:
    try:
        return json.loads(fileio.get(path, backend_args=backend)), ""
    except FileNotFoundError:
        return None, "the annotation file does not exist"
    except OSError as error:
        return None, f"the annotation file cannot be read: {error.strerror or error}"
    except ValueError as error:
        return None, f"it is not valid JSON: {error}"


def _well_formed(key: str, entries: list[Any], report: Report) -> list[Entry]:
    kept = []
    for place, entry in enumerate(entries):
        found = entry if isinstance(entry, dict) else {}
        wrong = [name for name, is_right in _NEEDED[key].items() if not is_right(found.get(name))]
        if wrong:
            fault = f"{key}[{place}] has no usable {' and '.join(wrong)}: {shortly(entry)}"
            report.add([("entry-malformed", fault)])
        else:
            kept.append(found)
    return kept


def _repeated(entries: Iterable[Entry], key: str) -> Iterator[tuple[Any, list[Entry]]]:
    groups: dict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry[key]].append(entry)
    return ((value, found) for value, found in groups.items() if len(found) > 1)


def _listed(entries: list[Entry], key: str, most: int = 4) -> str:
    shown = ", ".join(str(entry[key]) for entry in entries[:most])
    return shown if len(entries) <= most else f"{shown} and {len(entries) - most} more"


def _check_references(coco: CocoFile, what: str, entries: list[Entry], report: Report) -> None:
    """Find annotations of what is not there; ids that differ only in type are told."""
    known = {entry["id"] for entry in entries}
    alike = {str(value): value for value in known}
    for annotation in coco.annotations:
        value = annotation[f"{what}_id"]
        if value not in known:
            near = f"; there is {alike[str(value)]!r}" if str(value) in alike else ""
            fault = (f"annotation-{what}-unknown", f"{what}_id {value!r}{near}")
            report.add([fault], annotation=annotation["id"], image=annotation["image_id"])
