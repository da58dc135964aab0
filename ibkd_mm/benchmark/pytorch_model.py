"""Detectors of mmdet, run by PyTorch."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import MODELS
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ibkd_mm.benchmark.benchmark_model import BenchmarkModel, BenchmarkSettings, Counts, Flops, Image
from ibkd_mm.config.walk import walk
from ibkd_mm.engine.checkpoint.state_dict_match import load_all_weights
from ibkd_mm.errors import UserError

_GREY = 114


def open_detector(
    config: Config, weights: Mapping[str, Any] | None, image: Image, settings: BenchmarkSettings
) -> BenchmarkModel:
    """Build a detector and prepare it for timing.

    A model that can be exported is fused, and its network is the exported graph. The network of others is
    what mmdet runs to count FLOPs, `mode="tensor"`, without the post-processing. `weights` is a state_dict;
    None keeps the initial weights.
    """
    detector = _build(config, weights, settings)
    transforms = Compose(test_transforms(config, settings.size))

    def make_batch(size: int) -> dict[str, list[Any]]:
        packed = [transforms({"img": image, "img_id": 0}) for _ in range(size)]
        return {key: [sample[key] for sample in packed] for key in ("inputs", "data_samples")}

    with torch.no_grad():
        batch = detector.data_preprocessor(make_batch(settings.batch), training=False)
    # the export graph is a copy of the model, made only if it is run
    network = cache(lambda: _make_network(detector, config.model.get("data_preprocessor") or {}, batch))

    @torch.no_grad()
    def forward() -> None:
        network()()
        _synchronize(settings.device)

    @torch.no_grad()
    def pipeline() -> int:
        (sample,) = detector.test_step(make_batch(1))
        _synchronize(settings.device)
        return len(sample.pred_instances)

    def count() -> Counts:
        values = [*detector.parameters(), *detector.buffers()]
        return Counts(
            parameters=sum(value.numel() for value in detector.parameters()),
            size=sum(value.numel() * value.element_size() for value in values),
            flops=count_flops(forward),
        )

    return BenchmarkModel(
        runtime="PyTorch",
        inputs=[tuple(batch["inputs"].shape)],
        batch=settings.batch,
        forward=forward,
        pipeline=pipeline if settings.batch == 1 else None,
        count=count,
    )


def count_flops(forward: Callable[[], object]) -> Flops:
    """Run a function once and count its FLOPs."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        forward()
    counts = {str(kind).lower(): count for kind, count in counter.get_flop_counts().get("Global", {}).items()}
    products = sum(count for kind, count in counts.items() if "bmm" in kind or "attention" in kind)
    return Flops(sum(counts.values()) - products, products)


def test_transforms(config: Config, size: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Return a config's test transforms for an image in memory, resized and padded to (height, width)."""
    steps = [
        step
        for step in deepcopy(get_test_pipeline_cfg(config))
        if not _name(step).startswith("Load") and not (size and _name(step) == "Pad")
    ]
    resizes = [index for index, step in enumerate(steps) if _name(step).endswith("Resize")]
    if size and not resizes:
        raise UserError(
            f"Expected a Resize in the test pipeline of {config.filename} for --size, found none."
        )
    if size:
        for index in resizes:
            steps[index].update(scale=size[::-1], keep_ratio=True)
        steps.insert(resizes[-1] + 1, {"type": "mmdet.Pad", "size": size[::-1], "pad_val": {"img": _GREY}})
    return [{"type": "mmdet.LoadImageFromNDArray"}, *steps]


test_transforms.__test__ = False  # type: ignore[attr-defined]


def _name(step: ConfigDict) -> str:
    """Return the name of a transform without its scope; `type` may be a class."""
    return str(getattr(step["type"], "__name__", step["type"])).rpartition(".")[2]


def _build(config: Config, weights: Mapping[str, Any] | None, settings: BenchmarkSettings) -> BaseDetector:
    model = deepcopy(config.model)
    if settings.score is not None:
        for path, part in list(walk(model)):
            if "test_cfg" in path.split(".") and isinstance(part, dict) and "score_thr" in part:
                part.update(score_thr=settings.score)
    detector = MODELS.build(model)
    if not isinstance(detector, BaseDetector):
        raise UserError(
            f"Expected a config of an mmdet detector, found {type(detector).__name__} in {config.filename}."
        )
    if weights is not None:
        problem = f"The checkpoint does not fit the model of {config.filename}"
        load_all_weights(detector, dict(weights), problem)
    detector.to(settings.device).eval()
    return detector.fuse() if hasattr(detector, "fuse") else detector


def _make_network(
    detector: BaseDetector, preprocessor: Mapping[str, Any], batch: dict[str, Any]
) -> Callable[[], object]:
    if not hasattr(detector, "export_graph"):
        return lambda: detector(batch["inputs"], batch["data_samples"], mode="tensor")
    pixels = _restore_pixels(detector.data_preprocessor, preprocessor, batch["inputs"])
    graph = detector.export_graph()
    return lambda: graph(pixels)


def _restore_pixels(preprocessor: Any, settings: Mapping[str, Any], inputs: Tensor) -> Tensor:
    """Undo the normalisation, which the exported graph contains: (B, 3, H, W), RGB from 0 to 255."""
    if settings.get("mean") is not None:
        inputs = inputs * preprocessor.std + preprocessor.mean
    is_converted = settings.get("bgr_to_rgb") or settings.get("rgb_to_bgr")
    return inputs if is_converted else inputs.flip(1)


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
