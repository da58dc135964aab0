"""A data set of any other format, looked at through what it hands to its pipeline: images and label maps."""

from collections.abc import Iterator, Mapping
from typing import Any

from ibkd_mm.data_check.findings import Fault, Report
from ibkd_mm.data_check.images import Picture, Task, picture_faults
from ibkd_mm.data_check.split_datasets import Part
from ibkd_mm.data_check.values import as_size

_IGNORED = 255
"""What mmseg's loading makes of labels that have no class."""

_SHOWN = 8


class BuiltSource:
    """One data set that is not, or not simply, COCO: read by its own class."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.report = Report(part.name, type(part.dataset).__name__, _source(part.dataset))
        self._backend = getattr(part.dataset, "backend_args", None)
        self._infos = self._read()
        self.report.counts = {"images": len(self._infos), "maps": len(list(self.maps()))}

    def images(self) -> Iterator[tuple[str, Task]]:
        """Name each image, and what is to be read of it."""
        return ((info["img_path"], self._task(info)) for info in self._infos)

    def maps(self) -> Iterator[Task]:
        """Name the label maps to read."""
        return (self._map_task(info) for info in self._infos if info.get("seg_map_path"))

    def judge(self, pictures: Mapping[Task, Picture]) -> None:
        """Enter what is wrong with images and their maps into the report."""
        for info in self._infos:
            picture = pictures[self._task(info)]
            said = as_size(info.get("width"), info.get("height"))
            self.report.add(picture_faults(picture, said, self.part.turned), file=info["img_path"])
            if info.get("seg_map_path"):
                found = pictures[self._map_task(info)]
                self.report.add(self._map_faults(info, picture, found), file=info["seg_map_path"])

    def _read(self) -> list[dict[str, Any]]:
        dataset = self.part.dataset
        try:
            dataset.serialize_data = False  # mmengine fails at it where nothing is left
            dataset.full_init()
            infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        except Exception as error:  # it is the data set's own code, reading what may be anything
            self.report.add([("dataset-unreadable", f"{type(error).__name__}: {error}")])
            return []
        if not infos:
            self.report.add([("split-empty", "the data set is empty")])
        kept = [info for info in infos if isinstance(info.get("img_path"), str)]
        if len(kept) < len(infos):
            self.report.add([("dataset-unknown", f"{len(infos) - len(kept)} samples without img_path")])
        return kept

    def _task(self, info: Mapping[str, Any]) -> Task:
        return Task(info["img_path"], backend=self._backend)

    def _map_task(self, info: Mapping[str, Any]) -> Task:
        return Task(info["seg_map_path"], is_map=True, backend=self._backend)

    def _map_faults(self, info: Mapping[str, Any], picture: Picture, found: Picture) -> Iterator[Fault]:
        if found.problem:
            yield f"segmap-{found.problem}", found.detail
            return
        size, shown = found.size(False), picture.size(self.part.turned)
        if not picture.problem and size != shown:
            yield "segmap-size", f"it is {size[0]} x {size[1]}, its image {shown[0]} x {shown[1]}"
        if found.labels == ():
            yield "segmap-label", "its pixels are colours and not labels"
        wrong = self._wrong_labels(info, found.labels or ())
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            yield "segmap-label", f"{', '.join(map(str, wrong[:_SHOWN]))}{more}"

    def _wrong_labels(self, info: Mapping[str, Any], labels: tuple[int, ...]) -> list[int]:
        """Find the labels that are no class after mmseg's loading has changed them."""
        classes = len(self.part.dataset.metainfo.get("classes") or ())
        allowed = {*range(classes), _IGNORED, getattr(self.part.dataset, "ignore_index", _IGNORED)}
        renamed = info.get("label_map") or {}
        reduced = {label: label for label in labels}
        if info.get("reduce_zero_label"):
            reduced = {label: _IGNORED if label in (0, _IGNORED) else label - 1 for label in labels}
        return [old for old, new in reduced.items() if classes and renamed.get(new, new) not in allowed]


def _source(dataset: Any) -> str:
    return dataset.ann_file or str((dataset.data_prefix or {}).get("img_path") or dataset.data_root or "?")
