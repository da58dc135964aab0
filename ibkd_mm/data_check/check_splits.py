"""Check all datasets of a config: read every file once, then check every annotation."""

import os.path as osp
from collections.abc import Mapping, Sequence

from mmdet.datasets import CocoDataset

from ibkd_mm.data_check.coco_checker import CocoChecker
from ibkd_mm.data_check.config_datasets import CheckedDataset
from ibkd_mm.data_check.findings import Report
from ibkd_mm.data_check.generic_checker import GenericChecker
from ibkd_mm.data_check.images import DecodedImage, ImageFile, read_images

NamedFiles = list[tuple[str, ImageFile]]  # images of a split: name in the annotation file, and file
Decoded = Mapping[ImageFile, DecodedImage]


def check_datasets(datasets: Sequence[CheckedDataset], workers: int | None = None) -> list[Report]:
    """Check datasets and the overlap between them; return one report for each."""
    checkers = [CocoChecker(each) if _is_plain_coco(each) else GenericChecker(each) for each in datasets]
    files = [file for checker in checkers for _, file in checker.images]
    files += [file for checker in checkers for file in checker.segmentation_maps]
    decoded = read_images(files, workers)
    training = [image for checker in checkers if checker.checked.is_training for image in checker.images]
    for checker in checkers:
        checker.check(decoded)
        _add_duplicates(checker.report, checker.images, decoded)
        if not checker.checked.is_training:
            _add_overlap(checker.report, checker.images, training, decoded)
    return [checker.report for checker in checkers]


def _is_plain_coco(checked: CheckedDataset) -> bool:
    """Return whether the class reads its file as CocoDataset does; those of LVIS and panoptic COCO do not."""
    kind = type(checked.dataset)
    return (
        issubclass(kind, CocoDataset)
        and kind.load_data_list is CocoDataset.load_data_list
        and kind.COCOAPI is CocoDataset.COCOAPI
    )


def _add_duplicates(report: Report, images: NamedFiles, decoded: Decoded) -> None:
    first: dict[bytes, str] = {}
    for file, name in {file: name for name, file in images}.items():
        digest = decoded[file].digest
        if digest and digest in first:
            report.add([("image-content-duplicate", f"equal to {first[digest]}")], file=name)
        elif digest:
            first[digest] = name


def _add_overlap(report: Report, images: NamedFiles, training: NamedFiles, decoded: Decoded) -> None:
    paths = {osp.normpath(file.path) for _, file in training}
    digests = {decoded[file].digest: name for name, file in training if decoded[file].digest}
    names = {name: file.path for name, file in training}
    for name, file in images:
        digest = decoded[file].digest
        if osp.normpath(file.path) in paths:
            report.add([("overlap-file", "")], file=name)
        elif digest in digests:
            report.add([("overlap-content", f"equal to {digests[digest]}")], file=name)
        elif name in names:
            report.add([("overlap-name", f"also {names[name]}")], file=name)
