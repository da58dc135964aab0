"""Check a dataset of any other format by the samples that its class loads: images and segmentation maps."""

from collections.abc import Iterator, Mapping
from typing import Any

from ibkd_mm.data_check.config_datasets import CheckedDataset
from ibkd_mm.data_check.findings import Fault, Report
from ibkd_mm.data_check.images import DecodedImage, ImageFile, find_image_faults
from ibkd_mm.data_check.values import join_limited, read_size

Info = Mapping[str, Any]
_IGNORED = 255  # label that mmseg's loading gives to pixels without a class


class GenericChecker:
    """Checks a dataset that is not plain COCO; its own class reads the annotations."""

    def __init__(self, checked: CheckedDataset) -> None:
        self.checked = checked
        dataset = checked.dataset
        source = dataset.ann_file or (dataset.data_prefix or {}).get("img_path") or dataset.data_root or "?"
        self.report = Report(checked.name, type(dataset).__name__, str(source))
        self._backend = getattr(dataset, "backend_args", None)
        self._infos = self._load()
        paths = [info["img_path"] for info in self._infos]
        self.images = [(path, ImageFile(path, backend=self._backend)) for path in paths]
        self.segmentation_maps = [self._map_file(info) for info in self._infos if info.get("seg_map_path")]
        self.report.counts = {"images": len(self.images), "maps": len(self.segmentation_maps)}

    def check(self, decoded: Mapping[ImageFile, DecodedImage]) -> None:
        """Report the faults of images and their segmentation maps."""
        for info, (path, file) in zip(self._infos, self.images, strict=True):
            image, size = decoded[file], read_size(info)
            faults = find_image_faults(image, size, applies_exif=self.checked.applies_exif)
            self.report.add(faults, file=path)
            if info.get("seg_map_path"):
                found = self._find_map_faults(info, image, decoded[self._map_file(info)])
                self.report.add(found, file=info["seg_map_path"])

    def _load(self) -> list[Info]:
        dataset = self.checked.dataset
        try:
            dataset.serialize_data = False  # mmengine fails to serialise an empty dataset
            dataset.full_init()
            infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        except Exception as error:  # the dataset's own code may raise anything
            self.report.add([("dataset-unreadable", f"{type(error).__name__}: {error}")])
            return []
        if not infos:
            self.report.add([("split-empty", "the dataset is empty")])
        usable = [info for info in infos if isinstance(info.get("img_path"), str)]
        if len(usable) < len(infos):
            self.report.add([("dataset-unknown", f"{len(infos) - len(usable)} samples without img_path")])
        return usable

    def _map_file(self, info: Info) -> ImageFile:
        return ImageFile(info["seg_map_path"], is_map=True, backend=self._backend)

    def _find_map_faults(self, info: Info, image: DecodedImage, label_map: DecodedImage) -> Iterator[Fault]:
        if label_map.problem:
            yield f"segmap-{label_map.problem}", label_map.detail
            return
        sizes = label_map.size(apply_exif=False), image.size(apply_exif=self.checked.applies_exif)
        if not image.problem and sizes[0] != sizes[1]:
            yield "segmap-size", "the map is {} x {}, the image {} x {}".format(*sizes[0], *sizes[1])
        if label_map.labels == ():
            yield "segmap-label", "the pixels are colours instead of labels"
        if wrong := self._find_wrong_labels(info, label_map.labels or ()):
            yield "segmap-label", join_limited(wrong, 8)

    def _find_wrong_labels(self, info: Info, labels: tuple[int, ...]) -> list[int]:
        """Return the labels that are no class after mmseg's loading has mapped them."""
        dataset = self.checked.dataset
        classes = len(dataset.metainfo.get("classes") or ())
        allowed = {*range(classes), _IGNORED, getattr(dataset, "ignore_index", _IGNORED)}
        label_map = info.get("label_map") or {}
        reduced = {label: label for label in labels}
        if info.get("reduce_zero_label"):
            reduced = {label: _IGNORED if label in (0, _IGNORED) else label - 1 for label in labels}
        return [old for old, new in reduced.items() if classes and label_map.get(new, new) not in allowed]
