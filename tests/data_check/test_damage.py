"""Apply each kind of damage to a valid dataset: it is found with its place, and nothing else is."""

import re
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from ibkd_mm.data_check import KINDS

Place = tuple[str, str | None, Any, Any]
"""Split, file, image id, annotation id."""


class Damage(NamedTuple):
    name: str
    do: Callable[[Any], Any]
    kind: str
    severity: str
    places: set[Place]
    detail: str


DAMAGES: list[Damage] = []


def damage(kind: str, severity: str, *places: Place, detail: str = "") -> Callable[..., Any]:
    """Register a function that damages the dataset, and all findings that it must cause."""

    def register(do: Callable[[Any], Any]) -> Callable[[Any], Any]:
        DAMAGES.append(Damage(do.__name__, do, kind, severity, set(places), detail))
        return do

    return register


def _of(annotation: int) -> Place:
    """Return the place of an annotation of the training split."""
    image = annotation // 10
    return "train", ("t1.jpg", "t2.png", "t3.jpg", "t4.jpg")[image - 1], image, annotation


T1, T2, T4 = ("train", "t1.jpg", 1, None), ("train", "t2.png", 2, None), ("train", "t4.jpg", 4, None)


# Images


@damage("image-missing", "error", T1)
def image_deleted(tiny):
    (tiny.root / "train/t1.jpg").unlink()


@damage("image-truncated", "error", T1)
def jpeg_cut_short(tiny):
    path = tiny.root / "train/t1.jpg"
    path.write_bytes(path.read_bytes()[:-500])


@damage("image-truncated", "error", T1, detail="have no end marker")
def jpeg_cut_short_and_filled_with_zeros(tiny):
    path = tiny.root / "train/t1.jpg"
    data = path.read_bytes()
    path.write_bytes(data[:-500] + bytes(500))
    assert cv2.imread(str(path)).shape == (48, 64, 3)  # OpenCV accepts it


@damage("image-truncated", "error", T2)
def png_cut_short(tiny):
    path = tiny.root / "train/t2.png"
    path.write_bytes(path.read_bytes()[:-500])


@damage("image-truncated", "error", T1, detail="empty")
def image_of_no_bytes(tiny):
    (tiny.root / "train/t1.jpg").write_bytes(b"")


@damage("image-undecodable", "error", T1, detail="no decoder")
def image_that_is_a_web_page(tiny):
    (tiny.root / "train/t1.jpg").write_text("<html>404 Not Found</html>")


@damage("image-undecodable", "error", T1, detail="Is a directory")
def image_that_is_a_folder(tiny):
    (tiny.root / "train/t1.jpg").unlink()
    (tiny.root / "train/t1.jpg").mkdir()


@damage("image-size", "error", T1, detail="the image is 64 x 48, the annotation file has 60 x 48")
def size_of_another_image(tiny):
    tiny.train["images"][0]["width"] = 60


@damage("image-turned", "error", T1, detail="the image is 48 x 64, the annotation file has 64 x 48")
def portrait_that_was_annotated_as_stored(tiny):
    tiny.set_orientation(6)


@damage("image-orientation", "note", T1, detail="EXIF orientation 3")
def image_upside_down(tiny):
    tiny.set_orientation(3)


@damage("image-content-duplicate", "note", ("train", "t3.jpg", None, None), detail="equal to t1.jpg")
def image_twice_under_two_names(tiny):
    shutil.copy(tiny.root / "train/t1.jpg", tiny.root / "train/t3.jpg")


@damage("image-unlabelled", "note", T2)
def image_without_annotation(tiny):
    tiny.train["annotations"].remove(tiny.entry(20))


# Ids


@damage("image-id-duplicate", "error", ("train", None, 1, None), detail="t1.jpg, t5.jpg")
def two_images_of_one_id(tiny):
    cv2.imwrite(str(tiny.root / "train/t5.jpg"), np.zeros((48, 64, 3), np.uint8))
    tiny.train["images"].append({**tiny.train["images"][0], "file_name": "t5.jpg"})


@damage("image-file-duplicate", "warning", ("train", "t1.jpg", None, None), detail="images 1, 5")
def two_entries_of_one_file(tiny):
    tiny.train["images"].append({**tiny.train["images"][0], "id": 5})
    tiny.train["annotations"].append({**tiny.entry(10), "id": 50, "image_id": 5})


@damage("annotation-id-duplicate", "error", ("train", None, None, 20), detail="images 1, 2")
def two_annotations_of_one_id(tiny):
    tiny.entry(10)["id"] = 20


@damage("annotation-image-unknown", "error", ("train", None, 99, 41))
def annotation_of_no_image(tiny):
    tiny.entry(41)["image_id"] = 99


@damage("annotation-image-unknown", "error", ("train", None, "4", 41), detail="'4'; there is 4")
def annotation_whose_image_id_is_a_text(tiny):
    tiny.entry(41)["image_id"] = "4"


@damage("annotation-category-unknown", "error", ("train", None, 4, 41), detail="category_id 7")
def annotation_of_no_category(tiny):
    tiny.entry(41)["category_id"] = 7


@damage("category-duplicate", "error", ("train", None, None, None), detail="id 2 of dog, puma")
def two_categories_of_one_id(tiny):
    tiny.train["categories"].append({"id": 2, "name": "puma"})
    tiny.settings["metainfo"] = {"classes": ("cat", "dog", "puma")}
    tiny.val["categories"].append({"id": 3, "name": "puma"})


# Entries


@damage(
    "entry-malformed", "error", ("train", None, None, None), detail="annotations[5] has no valid image_id"
)
def annotation_without_image_id(tiny):
    del tiny.entry(41)["image_id"]


@damage("entry-malformed", "error", _of(41), detail="area, found None")
def annotation_without_area(tiny):
    del tiny.entry(41)["area"]


@damage("entry-malformed", "error", _of(41), detail="found [1, 2, 3]")
def box_of_three_numbers(tiny):
    tiny.entry(41)["bbox"] = [1, 2, 3]


@damage("entry-malformed", "error", T1, detail="'height': None")
def image_without_height(tiny):
    del tiny.train["images"][0]["height"]


# Boxes


@damage("box-outside", "warning", _of(10), detail="[50, 8, 20, 16]; the image is 64 x 48")
def box_over_the_edge(tiny):
    tiny.entry(10)["bbox"] = [50, 8, 20, 16]


@damage("box-outside", "warning", _of(10))
def box_left_of_the_image(tiny):
    tiny.entry(10)["bbox"] = [-30, 8, 20, 16]


@damage("box-empty", "warning", _of(10))
def box_without_width(tiny):
    tiny.entry(10)["bbox"] = [8, 8, 0, 16]


@damage("box-empty", "warning", _of(10))
def box_of_negative_height(tiny):
    tiny.entry(10)["bbox"] = [8, 24, 20, -16]


@damage("box-tiny", "note", _of(10))
def box_of_half_a_pixel(tiny):
    tiny.entry(10)["bbox"] = [8, 8, 0.5, 16]


@damage("box-nonfinite", "error", _of(10))
def box_with_nan(tiny):
    tiny.entry(10)["bbox"] = [8, float("nan"), 20, 16]


@damage("area-not-positive", "warning", _of(10))
def area_of_zero(tiny):
    tiny.entry(10)["area"] = 0


@damage("area-not-positive", "warning", _of(10))
def area_below_zero(tiny):
    tiny.entry(10)["area"] = -4.5


# Polygons


@damage("mask-missing", "error", _of(10))
def annotation_without_mask(tiny):
    tiny.entry(10)["segmentation"] = []


@damage("mask-malformed", "error", _of(10), detail="put it in [ ]")
def polygon_that_is_no_list_of_polygons(tiny):
    tiny.entry(10)["segmentation"] = [8, 8, 28, 8, 28, 24]


@damage("mask-malformed", "error", _of(10), detail="found [[8, 8], [28, 8], [28, 24]]")
def polygon_of_points(tiny):
    tiny.entry(10)["segmentation"] = [[[8, 8], [28, 8], [28, 24]]]


@damage("mask-malformed", "error", _of(10), detail="found str")
def mask_that_is_a_text(tiny):
    tiny.entry(10)["segmentation"] = "mask.png"


@damage("polygon-odd", "warning", _of(10), detail="polygon 0: 7 numbers")
def polygon_with_half_a_point(tiny):
    tiny.entry(10)["segmentation"] = [[8, 8, 28, 8, 28, 24, 8]]


@damage("polygon-short", "warning", _of(10), detail="polygon 1: 4 numbers")
def polygon_of_two_points(tiny):
    tiny.entry(10)["segmentation"].append([8, 8, 28, 8])


@damage("polygon-outside", "warning", _of(10), detail="x 8 to 68, y 8 to 24; the image is 64 x 48")
def polygon_over_the_edge(tiny):
    tiny.entry(10)["segmentation"] = [[8, 8, 68, 8, 68, 24, 8, 24]]


@damage("polygon-flat", "warning", _of(10), detail="4 points on one line")
def polygon_on_a_line(tiny):
    tiny.entry(10)["segmentation"] = [[8, 8, 12, 12, 20, 20, 16, 16]]


@damage("polygon-nonfinite", "error", _of(10), detail="number 2 is not finite")
def polygon_with_infinity(tiny):
    tiny.entry(10)["segmentation"] = [[8, 8, float("inf"), 8, 28, 24]]


# RLE


@damage("rle-counts", "error", _of(31), detail="add up to 3071 pixels, the image has 3072")
def runs_that_do_not_fill_the_image(tiny):
    tiny.entry(31)["segmentation"]["counts"][2] -= 1


@damage("rle-counts", "error", _of(31), detail="run 1 is negative")
def run_below_zero(tiny):
    tiny.entry(31)["segmentation"]["counts"] = [100, -20, 2992]


@damage("rle-size", "error", _of(41), detail="the RLE is 48 x 64, the image 64 x 48")
def rle_with_width_before_height(tiny):
    tiny.entry(41)["segmentation"]["size"] = [64, 48]


@damage("rle-undecodable", "error", _of(41), detail="truncated")
def compressed_counts_that_end_within_a_number(tiny):
    tiny.entry(41)["segmentation"]["counts"] += "o"


@damage("rle-undecodable", "error", _of(41), detail="character")
def compressed_counts_of_another_encoding(tiny):
    tiny.entry(41)["segmentation"]["counts"] = "eJxLZGBgAAAB!"


@damage("rle-counts", "error", _of(41), detail="the image has 3072")
def compressed_counts_cut_short(tiny):
    rle = tiny.entry(41)["segmentation"]
    rle["counts"] = re.sub("[P-o]*.$", "", rle["counts"])  # the last number


@damage("mask-malformed", "error", _of(41), detail="found None")
def rle_without_size(tiny):
    del tiny.entry(41)["segmentation"]["size"]


@damage("mask-empty", "warning", _of(31))
def rle_without_a_pixel(tiny):
    tiny.entry(31)["segmentation"]["counts"] = [48 * 64]


# Classes

TRAIN, VAL = ("train", None, None, None), ("val", None, None, None)


@damage("class-unknown", "warning", TRAIN, VAL, detail="'dog' with 2 annotations")
def class_that_the_config_leaves_out(tiny):
    tiny.settings["metainfo"] = {"classes": ("cat",)}
    tiny.entry(41)["category_id"] = tiny.entry(20)["category_id"] = 2
    tiny.entry(10)["category_id"] = tiny.entry(30)["category_id"] = tiny.entry(31)["category_id"] = 1
    tiny.entry(40)["category_id"] = 1
    tiny.train["annotations"].append({**tiny.entry(20), "id": 21, "category_id": 1})


@damage("class-absent", "warning", VAL, detail="'dog'")
def class_that_the_file_lacks(tiny):
    tiny.val["categories"].pop()
    for annotation in tiny.val["annotations"]:
        annotation["category_id"] = 1


@damage("class-shifted", "error", TRAIN, detail="'dog' gets label 0, which the config calls 'cat'")
def classes_in_another_order(tiny):
    tiny.train["categories"].reverse()


@damage("class-setting", "error", TRAIN, VAL, detail="('cat',)")
def classes_without_the_comma(tiny):
    tiny.settings["metainfo"] = {"classes": "cat"}


# Splits


@damage("split-empty", "error", TRAIN, detail="none of 4 images passes filter_cfg={'min_size': 100}")
def filter_that_lets_nothing_through(tiny):
    tiny.settings["filter_cfg"] = {"min_size": 100}


@damage("split-empty", "error", VAL, detail="has no image")
def split_without_images(tiny):
    tiny.val["images"], tiny.val["annotations"] = [], []


@damage("overlap-content", "warning", ("val", "v1.jpg", None, None), detail="equal to t1.jpg")
def validation_image_that_is_trained_on(tiny):
    shutil.copy(tiny.root / "train/t1.jpg", tiny.root / "val/v1.jpg")


@damage("overlap-file", "warning", ("val", "../train/t1.jpg", None, None))
def validation_entry_of_a_training_file(tiny):
    tiny.val["images"][0]["file_name"] = "../train/t1.jpg"


@damage("overlap-name", "note", ("val", "t1.jpg", None, None))
def validation_image_with_a_training_name(tiny):
    (tiny.root / "val/v1.jpg").rename(tiny.root / "val/t1.jpg")
    tiny.val["images"][0]["file_name"] = "t1.jpg"


def test_a_healthy_set_yields_nothing(tiny):
    reports = tiny.check()
    assert tiny.found(reports) == {}
    assert reports["train"].counts == {"images": 4, "annotations": 6, "crowds": 1, "categories": 2}
    assert reports["val"].counts == {"images": 2, "annotations": 2, "crowds": 0, "categories": 2}


@pytest.mark.parametrize("case", DAMAGES, ids=lambda case: case.name)
def test_damage_is_found_and_named(tiny, case):
    case.do(tiny)
    reports = tiny.check()
    assert tiny.found(reports) == {case.kind: case.places}
    assert KINDS[case.kind][0] == case.severity
    details = [finding.detail for report in reports.values() for finding in report.findings]
    assert any(case.detail in detail for detail in details), details


def test_there_are_more_than_twenty_kinds():
    assert len({case.kind for case in DAMAGES}) >= 35
    assert len(DAMAGES) >= 50
