"""Metadata and fixed axes of an exported file, from the settings, the config and the graph."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from ibkd_mm.config.walk import innermost_dataset
from ibkd_mm.deploy.runtime import FORMAT
from ibkd_mm.deploy.task import ExportSettings, ExportTask
from ibkd_mm.distill.interfaces import ExportGraph
from ibkd_mm.errors import UserError
from ibkd_mm.version import __version__


def plan_export(
    graph: ExportGraph, settings: ExportSettings, config: Config | None, classes: Sequence[str]
) -> ExportTask:
    """Choose the fixed axes of a file and collect its metadata."""
    axes = graph.dynamic_axes
    for axis, is_set, flag in (("batch", settings.batch != 1, "--batch"), ("rows", settings.size, "--size")):
        if is_set and axis not in axes:
            raise UserError(f"{flag} needs a model with an axis '{axis}'; found {', '.join(axes) or 'none'}.")
    lengths = {"batch": settings.batch} if "batch" in axes else {}
    metadata = {"format": FORMAT, "version": __version__, "precision": settings.precision}
    metadata |= {"classes": list(classes)} if classes else {}
    if "rows" in axes:
        resize = find_resize(config)
        rows, columns = _choose_size(settings.size, resize, axes)
        lengths |= {"rows": rows, "columns": columns}
        metadata |= {"size": [rows, columns], "keep_ratio": resize.get("keep_ratio", False)}
    metadata |= {"dynamic": settings.dynamic, **graph.metadata}
    return ExportTask(graph, {} if settings.dynamic else lengths, metadata, settings, config)


def find_resize(config: Config | None) -> dict[str, Any]:
    """Return the resize transform of the test pipeline, empty if there is none."""
    dataset = innermost_dataset(config.test_dataloader.dataset) if config else {}
    steps = dataset.get("pipeline", [])
    return next((step for step in steps if str(step["type"]).endswith("Resize") and "scale" in step), {})


def class_names(config: Config, count: int, checkpoint_meta: Any) -> list[str]:
    """Find `count` names in a config, its dataset class, or the `meta` of a checkpoint, or make some up."""
    dataset = innermost_dataset(config.test_dataloader.dataset)
    sources = (
        dataset.get("metainfo"),
        getattr(DATASETS.get(dataset["type"]), "METAINFO", None),
        (checkpoint_meta or {}).get("dataset_meta"),
    )
    for names in ((source or {}).get("classes") for source in sources):
        if isinstance(names, list | tuple) and len(names) == count:
            return [str(name) for name in names]
    return [f"class {index}" for index in range(count)]


def _choose_size(
    size: Sequence[int] | None, resize: dict[str, Any], axes: Mapping[str, range]
) -> tuple[int, int]:
    source = "--size"
    if size is None:
        if "scale" not in resize:
            raise UserError("The config's test pipeline has no Resize with a scale. Set one: --size H W.")
        source, scale = "The size of the config's test pipeline", resize["scale"]
        size = (scale, scale) if isinstance(scale, int) else tuple(scale)[::-1]
    height, width = size
    valid = axes["rows"], axes["columns"]
    if height not in valid[0] or width not in valid[1]:
        nearest = " ".join(_nearest(side, lengths) for side, lengths in zip(size, valid, strict=True))
        raise UserError(
            f"Expected a height and width that are multiples of {valid[0].step}, from {valid[0][0]} to "
            f"{valid[0][-1]}. {source} is {height} {width}; the nearest is --size {nearest}."
        )
    return height, width


def _nearest(length: int, valid: range) -> str:
    return str(min(valid, key=lambda other: abs(other - length)))
