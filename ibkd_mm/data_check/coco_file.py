"""Read a COCO annotation file and check its structure: valid entries, unique ids, references that exist."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import mmengine.fileio as fileio
from mmdet.datasets import CocoDataset

from ibkd_mm.data_check.findings import Report
from ibkd_mm.data_check.values import join_limited, shorten

Entry = dict[str, Any]

# An entry without these cannot be checked further. Its other keys are checked together with the image.
_REQUIRED = {
    "images": ("id", "file_name"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}
# list, key that must be unique, kind of the finding, its place, key to list, detail
_UNIQUE = (
    ("images", "id", "image-id-duplicate", "image", "file_name", "of {}"),
    ("images", "file_name", "image-file-duplicate", "file", "id", "of the images {}"),
    ("annotations", "id", "annotation-id-duplicate", "annotation", "image_id", "in the images {}"),
    ("categories", "id", "category-duplicate", None, "name", "id {value!r} of {}"),
    ("categories", "name", "category-duplicate", None, "id", "name {value!r} of the ids {}"),
)


class CocoFile(NamedTuple):
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


def read_coco(dataset: CocoDataset, report: Report) -> CocoFile | None:
    """Read a dataset's file and report its invalid entries; return None if it cannot be read."""
    try:
        data = _load(dataset)
    except ValueError as error:
        report.add([("dataset-unreadable", str(error))], file=dataset.ann_file)
        return None
    return CocoFile(**{key: list(_valid_entries(key, data[key], report)) for key in _REQUIRED})


def check_ids(coco: CocoFile, report: Report) -> None:
    """Report ids and names that occur twice, and references to missing images and categories."""
    for entries, key, kind, place, listed, detail in _UNIQUE:
        for value, group in group_by(getattr(coco, entries), key).items():
            if len(group) > 1:
                values = join_limited([entry[listed] for entry in group], 4)
                where = {place: value} if place else {}
                report.add([(kind, detail.format(values, value=value))], **where)
    _check_references(coco, "image", coco.images, report)
    _check_references(coco, "category", coco.categories, report)


def _load(dataset: CocoDataset) -> dict[str, Any]:
    try:
        data = json.loads(fileio.get(dataset.ann_file, backend_args=dataset.backend_args))
    except FileNotFoundError:
        raise ValueError("the annotation file does not exist") from None
    except OSError as error:
        raise ValueError(f"the annotation file cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"it is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, found {type(data).__name__}")
    if dataset.test_mode:
        data.setdefault("annotations", [])
    missing = [key for key in _REQUIRED if not isinstance(data.get(key), list)]
    if missing:
        raise ValueError(f"it has no list of {' and '.join(missing)}")
    return data


def _valid_entries(key: str, entries: list[Any], report: Report) -> Iterator[Entry]:
    for index, entry in enumerate(entries):
        values = entry if isinstance(entry, dict) else {}
        wrong = [name for name in _REQUIRED[key] if not _is_valid(name, values.get(name))]
        if wrong:
            detail = f"{key}[{index}] has no valid {' and '.join(wrong)}: {shorten(entry)}"
            report.add([("entry-malformed", detail)])
        else:
            yield values


def _is_valid(key: str, value: Any) -> bool:
    return type(value) in (int, str, float) if key.endswith("id") else isinstance(value, str) and value != ""


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
