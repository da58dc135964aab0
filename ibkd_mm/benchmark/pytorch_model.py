"""Detectors of mmdet, run by PyTorch."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from ibkd_mm.benchmark.flops import count_flops
from ibkd_mm.benchmark.subject import Counts, Picture, Settings, Subject
from ibkd_mm.engine import load_matching_weights
from ibkd_mm.errors import UserError
from ibkd_mm.yolov10.detector import YOLOv10
from ibkd_mm.yolov10.export_graph import MOST_INSTANCES, DeployedStudent

_GREY = 114


def open_torch(
    config: Config, weights: Mapping[str, Any] | None, picture: Picture, settings: Settings
) -> Subject:
    """Make a detector ready.

    The student is fused, and its network runs up to what an exported file puts out. Of others the network
    runs without what comes after it, as mmdet runs it to count operations: `mode="tensor"`.

    Args:
        config: with `model` and `test_dataloader`.
        weights: a state_dict; None leaves the model as it is built.
        picture: what it is run on.
        settings: of the benchmark.
    """
    init_default_scope(config.get("default_scope") or "mmdet")
    detector = _build(config, weights, settings)
    transforms = Compose(test_transforms(config, settings.size))

    def batch(pictures: int) -> dict[str, list[Any]]:
        packed = [transforms({"img": picture, "img_id": 0}) for _ in range(pictures)]
        return {key: [each[key] for each in packed] for key in ("inputs", "data_samples")}

    @torch.no_grad()
    def find() -> int:
        (found,) = detector.test_step(batch(1))
        _wait(settings.device)
        return len(found.pred_instances)

    with torch.no_grad():
        ready = detector.data_preprocessor(batch(settings.batch), training=False)
    network = cache(lambda: _network(detector, ready))  # a copy, only made where it is run

    @torch.no_grad()
    def run() -> None:
        network()()
        _wait(settings.device)

    def count() -> Counts:
        values = [*detector.parameters(), *detector.buffers()]
        return Counts(
            parameters=sum(value.numel() for value in detector.parameters()),
            size=sum(value.numel() * value.element_size() for value in values),
            flops=count_flops(run),
        )

    return Subject(
        runtime="PyTorch",
        inputs=[tuple(ready["inputs"].shape)],
        batch=settings.batch,
        forward=run,
        pipeline=find if settings.batch == 1 else None,
        count=count,
    )


def test_transforms(config: Config, size: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Take the transforms of the config's test for a picture that is in memory, without annotations.

    Args:
        config: with `test_dataloader`.
        size: height and width to resize into and to pad to; None for what the config says.
    """
    steps = [
        step
        for step in deepcopy(get_test_pipeline_cfg(config))
        if not _name(step).startswith("Load") and not (size and _name(step) == "Pad")
    ]
    resizing = [place for place, step in enumerate(steps) if _name(step).endswith("Resize")]
    if size and not resizing:
        raise UserError(
            f"{config.filename} resizes no pictures in its test, so that --size cannot say to what."
        )
    if size:
        for place in resizing:
            steps[place].update(scale=size[::-1], keep_ratio=True)
        steps.insert(resizing[-1] + 1, {"type": "mmdet.Pad", "size": size[::-1], "pad_val": {"img": _GREY}})
    return [{"type": "mmdet.LoadImageFromNDArray"}, *steps]


test_transforms.__test__ = False  # type: ignore[attr-defined]


def _name(step: ConfigDict) -> str:
    """Give the transform's name without its scope, where it is written as a class too."""
    return str(getattr(step["type"], "__name__", step["type"])).rpartition(".")[2]


def _build(config: Config, weights: Mapping[str, Any] | None, settings: Settings) -> BaseDetector:
    model = deepcopy(config.model)
    if settings.score is not None:
        for part in _tests(model):
            part.update(score_thr=settings.score)
    detector = MODELS.build(model)
    if not isinstance(detector, BaseDetector):
        raise UserError(
            f"Expected a config of mmdet's detectors, found {type(detector).__name__} in {config.filename}."
        )
    mismatch = None if weights is None else load_matching_weights(detector, dict(weights))
    if mismatch:
        raise UserError(f"The checkpoint does not fit the model of {config.filename}:\n{mismatch}")
    detector.to(settings.device).eval()
    return detector.fuse() if isinstance(detector, YOLOv10) else detector


def _tests(part: Any, inside: bool = False) -> Iterator[ConfigDict]:
    """Find the settings of a model's test that say from which score on."""
    if isinstance(part, dict):
        if inside and "score_thr" in part:
            yield part
        for key, value in part.items():
            yield from _tests(value, inside or key == "test_cfg")


def _network(detector: BaseDetector, ready: dict[str, Any]) -> Callable[[], object]:
    if not isinstance(detector, YOLOv10):
        return lambda: detector(ready["inputs"], ready["data_samples"], mode="tensor")
    most = detector.bbox_head.predictor.max_per_img
    student = DeployedStudent(detector, max_instances=min(most, MOST_INSTANCES))
    pixels = _pixels(detector.data_preprocessor, ready["inputs"])
    return lambda: student(pixels)


def _pixels(preprocessor: Any, inputs: Tensor) -> Tensor:
    """Undo what the deployed student does by itself: (B, 3, H, W), RGB from 0 to 255."""
    if preprocessor._enable_normalize:
        inputs = inputs * preprocessor.std + preprocessor.mean
    return inputs if preprocessor._channel_conversion else inputs.flip(1)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
