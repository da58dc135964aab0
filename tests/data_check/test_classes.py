"""Findings about classes, compared with what mmdet's CocoDataset does with them."""

import itertools
from typing import Any

import pytest
from mmengine.registry import DATASETS

from ibkd_mm.data_check.coco_checker import find_class_faults, used_category_ids
from ibkd_mm.data_check.coco_file import CocoFile


def _file(names, used=()) -> CocoFile:
    categories: list[dict[str, Any]] = [{"id": 10 * n, "name": name} for n, name in enumerate(names, start=1)]
    return CocoFile([], [{"category_id": category} for category in used], categories)


def _kinds(names, classes):
    return {kind for kind, _ in find_class_faults(_file(names), classes)}


@pytest.mark.parametrize(
    "classes", [("cat", "dog"), ("dog", "cat"), ("dog",), ("puma",), ("puma", "dog"), ()]
)
@pytest.mark.parametrize("names", [("cat", "dog"), ("dog", "cat"), ("cow", "dog", "cat")])
def test_labels_are_those_that_mmdet_gives(tiny, names, classes):
    tiny.train["categories"] = _file(names).categories
    tiny.train["annotations"] = []
    tiny.write()
    settings = tiny.config().train_dataloader.dataset
    settings.update(metainfo={"classes": classes}, pipeline=[], filter_cfg=None, serialize_data=False)
    assert used_category_ids(_file(names), classes) == DATASETS.build(settings).cat_ids


def test_labels_are_right_exactly_where_no_class_is_shifted():
    names = ("cat", "cow", "dog")
    for count in (1, 2, 3):
        for classes in itertools.permutations(("cat", "dog", "puma"), count):
            labels = {name: label for label, name in enumerate(n for n in names if n in classes)}
            right = all(classes[label] == name for name, label in labels.items())
            assert ("class-shifted" not in _kinds(names, classes)) == right, classes


def test_what_is_left_out_is_counted():
    faults = dict(find_class_faults(_file(("cat", "dog"), used=(10, 20, 20, 20)), ("cat",)))
    assert faults == {"class-unknown": "'dog' with 3 annotations"}


def test_no_class_in_common():
    (fault,) = find_class_faults(_file(("a", "b", "c", "d", "e", "f")), ("person",))
    assert fault == ("class-none", "the file has 'a', 'b', 'c', 'd', 'e' and 1 more, the config 'person'")
    assert _kinds(("a",), None) == {"class-none"}
    assert _kinds((), ("a",)) == {"class-none"}


def test_no_classes_means_all_of_them():
    assert _kinds(("cat", "dog"), ()) == set()
    assert used_category_ids(_file(("cat", "dog")), ()) == [10, 20]
