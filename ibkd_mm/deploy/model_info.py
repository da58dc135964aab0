"""What an exported file says of itself, from the config and the model."""

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from ibkd_mm.config.walk import innermost_dataset
from ibkd_mm.deploy.runtime import FORMAT, ModelInfo
from ibkd_mm.errors import UserError
from ibkd_mm.version import __version__
from ibkd_mm.yolov10 import YOLOv10


def describe(
    config: Config, detector: YOLOv10, classes: list[str], *, size: Sequence[int] | None, dynamic: bool
) -> ModelInfo:
    """Describe what a config's model becomes.

    Args:
        config: with the model's preprocessor and the pipeline of the test.
        detector: the config's.
        classes: names.
        size: height and width that pictures are made to fit; else the pipeline's.
        dynamic: whether it takes other sizes and batches.
    """
    head, given = detector.bbox_head, detector.data_preprocessor
    resize = find_resize(config)
    stride = max(head.strides)
    mean = given.mean.flatten().tolist() if given._enable_normalize else [0.0]
    std = given.std.flatten().tolist() if given._enable_normalize else [1.0]
    mean, std = (values * (3 // len(values)) for values in (mean, std))
    fill = [given.pad_value * by + plus for by, plus in zip(std, mean, strict=True)]
    rgb = 1 if given._channel_conversion else -1
    return ModelInfo(
        format=FORMAT,
        version=__version__,
        precision="fp32",
        classes=classes,
        size=list(_settled(size, resize, stride)),
        dynamic=dynamic,
        keep_ratio=resize.get("keep_ratio", False),
        stride=stride,
        mask_stride=head.mask_stride,
        pixels="RGB, 0 to 255, float32",
        normalisation=f"inside the graph: less {mean[::rgb]}, by {std[::rgb]}",
        pad=fill[::rgb],
        score_threshold=head.predictor.score_thr,
        mask_threshold=head.predictor.mask_thr_binary,
    )


def find_resize(config: Config) -> dict[str, Any]:
    """Find the step of the test's pipeline that makes pictures fit, empty if there is none."""
    steps = innermost_dataset(config.test_dataloader.dataset).get("pipeline", [])
    return next((step for step in steps if str(step["type"]).endswith("Resize") and "scale" in step), {})


def class_names(config: Config, count: int, meta: Any) -> list[str]:
    """Find the names of a model's classes: as its config has them, its data set, or its checkpoint.

    Args:
        config: of the model.
        count: how many names there are to be.
        meta: what the checkpoint says of the training.
    """
    dataset = innermost_dataset(config.test_dataloader.dataset)
    kind = DATASETS.get(dataset["type"])
    known = [
        (dataset.get("metainfo") or {}).get("classes"),
        (getattr(kind, "METAINFO", None) or {}).get("classes"),
        ((meta or {}).get("dataset_meta") or {}).get("classes"),
    ]
    fitting = [names for names in known if isinstance(names, list | tuple) and len(names) == count]
    return [str(name) for name in fitting[0]] if fitting else [f"class {place}" for place in range(count)]


def _settled(size: Sequence[int] | None, resize: dict[str, Any], stride: int) -> tuple[int, int]:
    """Settle height and width."""
    if size is not None:
        whose = "--size"
    elif "scale" in resize:
        scale = resize["scale"]
        whose = "The size of the config's test pipeline"
        size = (scale, scale) if isinstance(scale, int) else tuple(scale)[::-1]
    else:
        raise UserError("The config's test pipeline has no Resize that tells a size. Give one: --size H W.")
    height, width = size
    if height < stride or width < stride or height % stride or width % stride:
        near = " ".join(str(max(round(side / stride), 1) * stride) for side in size)
        raise UserError(
            f"Heights and widths are multiples of {stride}. {whose} is {height} {width}; the nearest is "
            f"--size {near}."
        )
    return height, width
