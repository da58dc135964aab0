"""The whole check: every file of every split read once, then every annotation looked at."""

from collections.abc import Sequence

from mmdet.datasets import CocoDataset

from ibkd_mm.data_check.built import BuiltSource
from ibkd_mm.data_check.coco import CocoSource
from ibkd_mm.data_check.findings import Report
from ibkd_mm.data_check.overlap import enter_overlap, enter_repeated
from ibkd_mm.data_check.reading import read_pictures
from ibkd_mm.data_check.split_datasets import Part


def check_parts(parts: Sequence[Part], workers: int | None = None) -> list[Report]:
    """Check data sets and what they share; one report each."""
    sources = [_source(part) for part in parts]
    images = {source.part.name: list(source.images()) for source in sources}
    tasks = [task for source in sources for _, task in images[source.part.name]]
    tasks += [task for source in sources for task in source.maps()]
    pictures = read_pictures(tasks, workers)
    trained = [image for part in parts if part.is_trained_on for image in images[part.name]]
    for source in sources:
        source.judge(pictures)
        enter_repeated(source.report, images[source.part.name], pictures)
        if not source.part.is_trained_on:
            enter_overlap(source.report, images[source.part.name], trained, pictures)
    return [source.report for source in sources]


def _source(part: Part) -> CocoSource | BuiltSource:
    return CocoSource(part) if _is_plain_coco(part) else BuiltSource(part)


def _is_plain_coco(part: Part) -> bool:
    """Tell whether the class reads its file as CocoDataset does; LVIS and panoptic COCO do not."""
    kind = type(part.dataset)
    return (
        issubclass(kind, CocoDataset)
        and kind.load_data_list is CocoDataset.load_data_list
        and kind.COCOAPI is CocoDataset.COCOAPI
    )
