"""Check a dataset in COCO format by its annotation file, because CocoDataset hides what it drops."""

import os.path as osp
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.datasets import CocoDataset

from ibkd_mm.data_check.annotations import find_annotation_faults
from ibkd_mm.data_check.coco_file import CocoFile, check_ids, group_by, read_coco
from ibkd_mm.data_check.config_datasets import CheckedDataset
from ibkd_mm.data_check.findings import Fault, Report
from ibkd_mm.data_check.images import DecodedImage, ImageFile, find_image_faults
from ibkd_mm.data_check.values import join_limited, read_size, shorten
from ibkd_mm.errors import UserError


class CocoChecker:
    """Checks a CocoDataset: first its annotation file, then its images and annotations."""

    segmentation_maps: tuple[ImageFile, ...] = ()

    def __init__(self, checked: CheckedDataset) -> None:
        self.checked = checked
        dataset = checked.dataset
        self.report = Report(checked.name, type(dataset).__name__, dataset.ann_file)
        folder = dataset.data_prefix.get("img")
        if folder is None:
            raise UserError(
                f"Expected the folder of the images in data_prefix of the dataset of {checked.name}, found "
                f"{dataset.data_prefix}. Set data_prefix=dict(img='folder/')."
            )
        coco = read_coco(dataset, self.report)
        if coco:
            self._check_file(coco)
        self._coco = coco or CocoFile([], [], [])
        names, backend = [entry["file_name"] for entry in self._coco.images], dataset.backend_args
        self.images = [(name, ImageFile(osp.join(folder, name), backend=backend)) for name in names]

    def check(self, decoded: Mapping[ImageFile, DecodedImage]) -> None:
        """Report the faults of images and their annotations."""
        checked, annotations = self.checked, group_by(self._coco.annotations, "image_id")
        for entry, (name, file) in zip(self._coco.images, self.images, strict=True):
            where, image, entry_size = {"file": name, "image": entry["id"]}, decoded[file], read_size(entry)
            faults = find_image_faults(image, entry_size, applies_exif=checked.applies_exif)
            if entry_size is None:
                sides = {side: entry.get(side) for side in ("width", "height")}
                faults.append(("entry-malformed", f"no valid size: {shorten(sides)}"))
            if entry["id"] not in annotations:
                faults.append(("image-unlabelled", ""))
            self.report.add(faults, **where)
            size = entry_size if image.problem else image.size(apply_exif=checked.applies_exif)
            for annotation in annotations.get(entry["id"], []):
                found = find_annotation_faults(annotation, size, loads_masks=checked.loads_masks)
                self.report.add(found, annotation=annotation["id"], **where)

    def _check_file(self, coco: CocoFile) -> None:
        dataset = self.checked.dataset
        classes = dataset.metainfo.get("classes")
        check_ids(coco, self.report)
        self.report.add(find_class_faults(coco, classes))
        self.report.add(_find_emptiness(coco, {*used_category_ids(coco, classes)}, dataset))
        crowds = sum(bool(annotation.get("iscrowd")) for annotation in coco.annotations)
        counts = (len(coco.images), len(coco.annotations), crowds, len(coco.categories))
        self.report.counts = dict(zip(("images", "annotations", "crowds", "categories"), counts, strict=True))


def used_category_ids(coco: CocoFile, classes: Any) -> list[Any]:
    """Return the ids of the categories that CocoDataset uses, in the order of their labels."""
    if classes is None:
        return []
    return [entry["id"] for entry in coco.categories if not len(classes) or entry["name"] in classes]


def find_class_faults(coco: CocoFile, classes: Any) -> Iterator[Fault]:
    """Compare the names of classes and categories, and the labels that CocoDataset gives them.

    It numbers the categories that the config names in the order of the *file*. If a class is missing from the
    file, or the order differs, annotations silently get the label of another class.
    """
    if isinstance(classes, str):
        yield "class-setting", f"found {classes!r}; write a list of one name as ('{classes}',) with a comma"
        return
    if classes is not None and not len(classes):
        return  # then CocoDataset uses every category
    names = [entry["name"] for entry in coco.categories]
    if not set(names).intersection(classes or ()):
        listed = [join_limited([*map(repr, each)], 5) or "none" for each in (names, classes or ())]
        yield "class-none", "the file has {}, the config {}".format(*listed)
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


def _find_emptiness(coco: CocoFile, category_ids: set[Any], dataset: CocoDataset) -> Iterator[Fault]:
    """Filter as CocoDataset does, and report a split without images."""
    left = coco.images
    settings = {} if dataset.test_mode else dataset.filter_cfg or {}
    if settings.get("filter_empty_gt", False):
        used = {entry["image_id"] for entry in coco.annotations if entry["category_id"] in category_ids}
        left = [image for image in left if image["id"] in used]
    min_size = settings.get("min_size", 0)
    left = [image for image in left if min(read_size(image) or (min_size,)) >= min_size]
    if not coco.images:
        yield "split-empty", "the file has no image"
    elif not left:
        yield "split-empty", f"none of {len(coco.images)} images passes filter_cfg={dict(settings)}"
