"""Images that stand where they should be only once: twice in a split, or in training and in validation."""

import os.path as osp
from collections.abc import Iterable, Mapping

from ibkd_mm.data_check.findings import Report
from ibkd_mm.data_check.images import Picture, Task

Named = list[tuple[str, Task]]
"""The images of a split: the name in the annotation file, and the file."""


def enter_repeated(report: Report, images: Named, pictures: Mapping[Task, Picture]) -> None:
    """Find files of one split that are equal byte for byte."""
    first: dict[bytes, str] = {}
    for task, name in {task: name for name, task in images}.items():
        digest = pictures[task].digest
        if digest and digest in first:
            report.add([("image-content-duplicate", f"equal to {first[digest]}")], file=name)
        elif digest:
            first[digest] = name


def enter_overlap(
    report: Report, images: Named, trained: Iterable[tuple[str, Task]], pictures: Mapping[Task, Picture]
) -> None:
    """Find images that are also trained on: the same file, the same content, or at least the same name."""
    paths, digests, names = {}, {}, {}
    for name, task in trained:
        paths[osp.normpath(task.path)] = name
        digests[pictures[task].digest] = name
        names[name] = task.path
    digests.pop(b"", None)
    for name, task in images:
        digest = pictures[task].digest
        if osp.normpath(task.path) in paths:
            report.add([("overlap-file", "")], file=name)
        elif digest in digests:
            report.add([("overlap-content", f"equal to {digests[digest]}")], file=name)
        elif name in names:
            report.add([("overlap-name", f"also {names[name]}")], file=name)
