"""A data set in COCO format, looked at in its raw file: the data set's own class hides what it leaves out."""

import os.path as osp
from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.datasets import CocoDataset

from ibkd_mm.data_check.annotations import annotation_faults
from ibkd_mm.data_check.classes import class_faults, known_categories
from ibkd_mm.data_check.coco_file import CocoFile, Entry, check_ids, read_coco
from ibkd_mm.data_check.findings import Fault, Report
from ibkd_mm.data_check.images import Picture, Task, picture_faults
from ibkd_mm.data_check.split_datasets import Part
from ibkd_mm.data_check.values import as_size, shortly
from ibkd_mm.errors import UserError


class CocoSource:
    """One data set of the CocoDataset family: first its file, then what the file says of each image."""

    def __init__(self, part: Part) -> None:
        self.part = part
        dataset = part.dataset
        self.report = Report(part.name, type(dataset).__name__, dataset.ann_file)
        self._folder = dataset.data_prefix.get("img")
        if self._folder is None:
            raise UserError(
                f"The data set of {part.name} says in data_prefix={dataset.data_prefix} not where the images "
                "are. Give data_prefix=dict(img='folder/')."
            )
        self._classes = dataset.metainfo.get("classes")
        coco = read_coco(dataset.ann_file, dataset.backend_args, self.report, not dataset.test_mode)
        self._coco = coco or CocoFile([], [], [])
        if coco:
            self._check_file()

    def images(self) -> Iterator[tuple[str, Task]]:
        """Name each image as the file does, and what is to be read of it."""
        return ((image["file_name"], self._task(image)) for image in self._coco.images)

    def maps(self) -> Iterator[Task]:
        """Instances have no maps."""
        return iter(())

    def judge(self, pictures: Mapping[Task, Picture]) -> None:
        """Enter what is wrong with images and their annotations into the report."""
        by_image = self._coco.by_image()
        for image in self._coco.images:
            where = {"file": image["file_name"], "image": image["id"]}
            picture = pictures[self._task(image)]
            self.report.add(self._image_faults(image, picture), **where)
            annotations = by_image.get(image["id"], [])
            if not annotations:
                self.report.add([("image-unlabelled", "")], **where)
            size = _said_size(image) if picture.problem else picture.size(self.part.turned)
            for annotation in annotations:
                faults = annotation_faults(annotation, size, self.part.masks)
                self.report.add(faults, annotation=annotation["id"], **where)

    def _check_file(self) -> None:
        coco = self._coco
        check_ids(coco, self.report)
        self.report.add(class_faults(coco, self._classes))
        self.report.add(_emptiness(coco, known_categories(coco, self._classes), self.part.dataset))
        crowds = sum(bool(annotation.get("iscrowd")) for annotation in coco.annotations)
        self.report.counts = {
            "images": len(coco.images),
            "annotations": len(coco.annotations),
            "crowds": crowds,
            "categories": len(coco.categories),
        }

    def _task(self, image: Entry) -> Task:
        return Task(osp.join(self._folder, image["file_name"]), backend=self.part.dataset.backend_args)

    def _image_faults(self, image: Entry, picture: Picture) -> list[Fault]:
        said = _said_size(image)
        found = picture_faults(picture, said, self.part.turned)
        if said is None:
            sides = {side: image.get(side) for side in ("width", "height")}
            found.append(("entry-malformed", f"no usable size: {shortly(sides)}"))
        return found


def _said_size(image: Entry) -> tuple[int, int] | None:
    return as_size(image.get("width"), image.get("height"))


def _emptiness(coco: CocoFile, known: list[Any], dataset: CocoDataset) -> Iterator[Fault]:
    """Filter as CocoDataset does, and tell when nothing is left."""
    left = coco.images
    settings = {} if dataset.test_mode else dataset.filter_cfg or {}
    if settings.get("filter_empty_gt", False):
        labels = set(known)
        used = {entry["image_id"] for entry in coco.annotations if entry["category_id"] in labels}
        left = [image for image in left if image["id"] in used]
    least = settings.get("min_size", 0)
    left = [image for image in left if min(_said_size(image) or (least,)) >= least]
    if not coco.images:
        yield "split-empty", "the file has no image"
    elif not left:
        yield "split-empty", f"none of {len(coco.images)} images passes filter_cfg={dict(settings)}"
