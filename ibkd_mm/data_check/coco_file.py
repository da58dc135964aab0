"""Read a COCO annotation file and check its structure: valid entries, unique ids, references that exist."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mmengine.fileio as fileio

from ibkd_mm.data_check.findings import Report
from ibkd_mm.data_check.values import is_id, is_text, join_limited, shorten

Entry = dict[str, Any]

# An entry without these cannot be checked further. Its other keys are checked together with the image.
_REQUIRED = {
    "images": {"id": is_id, "file_name": is_text},
    "annotations": {"id": is_id, "image_id": is_id, "category_id": is_id},
    "categories": {"id": is_id, "name": is_text},
}
# list, key that must be unique, kind of the finding, its place, key to list, detail
_UNIQUE = (
    ("images", "id", "image-id-duplicate", "image", "file_name", "of {}"),
    ("images", "file_name", "image-file-duplicate", "file", "id", "of the images {}"),
    ("annotations", "id", "annotation-id-duplicate", "annotation", "image_id", "in the images {}"),
    ("categories", "id", "category-duplicate", None, "name", "id {value!r} of {}"),
    ("categories", "name", "category-duplicate", None, "id", "name {value!r} of the ids {}"),
)
_MAX_VALUES = 4


@dataclass
class CocoFile:
    """Valid entries of an annotation file."""

    images: list[Entry]
    annotations: list[Entry]
    categories: list[Entry]


def group_by(entries: list[Entry], key: str) -> dict[Any, list[Entry]]:
    """Group entries by the value of a key."""
    groups: dict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry[key]].append(entry)
    return groups


def read_coco(
    path: str, backend: dict[str, Any] | None, report: Report, *, is_labelled: bool
) -> CocoFile | None:
    """Read a file and report its invalid entries; return None if it cannot be read.

    Args:
        path: annotation file.
        backend: mmengine's `backend_args`.
        report: report of the dataset, which gets the findings.
        is_labelled: whether the file must have annotations.
    """
    data, reason = _load(path, backend)
    if not reason and not isinstance(data, dict):
        reason = f"expected a JSON object, found {type(data).__name__}"
    elif not reason:
        if not is_labelled:
            data.setdefault("annotations", [])
        missing = [key for key in _REQUIRED if not isinstance(data.get(key), list)]
        reason = f"it has no list of {' and '.join(missing)}" if missing else ""
    if reason:
        report.add([("dataset-unreadable", reason)], file=path)
        return None
    return CocoFile(**{key: list(_valid_entries(key, data[key], report)) for key in _REQUIRED})


def check_ids(coco: CocoFile, report: Report) -> None:
    """Report ids and names that occur twice, and references to missing images and categories."""
    for entries, key, kind, place, listed, detail in _UNIQUE:
        for value, group in group_by(getattr(coco, entries), key).items():
            if len(group) > 1:
                values = join_limited([entry[listed] for entry in group], _MAX_VALUES)
                where = {place: value} if place else {}
                report.add([(kind, detail.format(values, value=value))], **where)
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


def _valid_entries(key: str, entries: list[Any], report: Report) -> Iterator[Entry]:
    for index, entry in enumerate(entries):
        values = entry if isinstance(entry, dict) else {}
        wrong = [name for name, is_valid in _REQUIRED[key].items() if not is_valid(values.get(name))]
        if wrong:
            detail = f"{key}[{index}] has no valid {' and '.join(wrong)}: {shorten(entry)}"
            report.add([("entry-malformed", detail)])
        else:
            yield values


def _check_references(coco: CocoFile, what: str, entries: list[Entry], report: Report) -> None:
    """Report annotations that refer to a missing entry, and an existing id that differs only in type."""
    known = {entry["id"] for entry in entries}
    as_text = {str(value): value for value in known}
    for annotation in coco.annotations:
        value = annotation[f"{what}_id"]
        if value not in known:
            hint = f"; there is {as_text[str(value)]!r}" if str(value) in as_text else ""
            fault = (f"annotation-{what}-unknown", f"{what}_id {value!r}{hint}")
            report.add([fault], annotation=annotation["id"], image=annotation["image_id"])
