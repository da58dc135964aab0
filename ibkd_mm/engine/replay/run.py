"""Run a saved training step again, find where its numbers stop being finite, and describe its batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import Tensor, nn

from ibkd_mm.config.walk import walk
from ibkd_mm.engine.checkpoint.state_dict_match import load_all_weights
from ibkd_mm.engine.finite import join_first, loss_terms, non_finite_owners
from ibkd_mm.engine.memory_format import to_memory_format
from ibkd_mm.engine.model_wrappers import optim_wrappers
from ibkd_mm.engine.replay.file import Step
from ibkd_mm.utils.rng import seed_everything


@dataclass(frozen=True)
class ReplayedTerm:
    """A loss term: its value now and in the training, and the modules whose gradient it makes non-finite."""

    name: str
    value: float
    recorded: float | None
    spoilt: list[str]

    @property
    def row(self) -> tuple[str, ...]:
        """The term as the cells of a table."""
        recorded = "" if self.recorded is None else f"{self.recorded:.9g}"
        gradient = f"not finite: {join_first(self.spoilt)}" if self.spoilt else "finite"
        return self.name, f"{self.value:.9g}", recorded, gradient


def run_step(config: Config, step: Step) -> tuple[list[ReplayedTerm], str | None]:
    """Run a step again; return its loss terms, and the first module whose output is not finite."""
    model = _build_model(config, step)
    wrapper = optim_wrappers(build_optim_wrapper(model, config.optim_wrapper))[0]
    MessageHub.get_current_instance().update_info("iter", step.iteration)  # some losses have schedules
    seed_everything(step.seed, step.rank, step.iteration)
    with wrapper.optim_context(model), _find_non_finite_outputs(model) as found:
        data = model.data_preprocessor(step.batch, True)
        losses = model(**data, mode="loss") if isinstance(data, dict) else model(*data, mode="loss")
    terms = [
        ReplayedTerm(name, float(value), step.losses.get(name), _non_finite_gradients(value, model))
        for name, value in loss_terms(losses).items()
    ]
    return terms, next(iter(found), None)


def _build_model(config: Config, step: Step) -> Any:
    settings = dict(config.model)
    if config.get("data_preprocessor"):
        settings.setdefault("data_preprocessor", config.data_preprocessor)
    model = revert_sync_batchnorm(MODELS.build(settings).to(get_device()))
    to_memory_format(model, config.get("memory_format"))
    problem = f"The weights in the file do not fit the model of {config.filename}"
    load_all_weights(model, step.state_dict, problem)
    if hasattr(model, "load_training_only_state"):
        # a training computes factors from its schedules, a replay has none
        model.load_training_only_state(step.training_only, with_factors=True)
    model.train()
    return model


@contextmanager
def _find_non_finite_outputs(model: nn.Module) -> Iterator[list[str]]:
    """Collect the modules whose output is not finite; inner modules come before those that contain them."""
    found: list[str] = []

    def check(name: str, module: nn.Module, _: Any, output: Any) -> None:
        tensors = [value for _, value in walk([output]) if isinstance(value, Tensor)]
        if any(value.is_floating_point() and not value.isfinite().all() for value in tensors):
            found.append(f"{name} ({type(module).__name__})")

    modules = ((name, module) for name, module in model.named_modules() if name)
    handles = [module.register_forward_hook(partial(check, name)) for name, module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _non_finite_gradients(term: Tensor, model: nn.Module) -> list[str]:
    if not term.requires_grad:
        return []
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(term, list(parameters.values()), retain_graph=True, allow_unused=True)
    pairs = zip(parameters, gradients, strict=True)
    return non_finite_owners({name: gradient for name, gradient in pairs if gradient is not None})


def describe_batch(batch: Any) -> list[str]:
    """Describe images and instances of a batch from a data loader."""
    if not isinstance(batch, dict):
        return []
    samples = [sample for sample in batch.get("data_samples") or [] if hasattr(sample, "gt_instances")]
    return _describe_images(batch.get("inputs")) + (_describe_instances(samples) if samples else [])


def _describe_images(inputs: Any) -> list[str]:
    items = inputs if inputs is not None else []
    images = [image for image in items if isinstance(image, Tensor) and image.numel()]
    if not images:
        return ["batch: no images"]
    shapes = ", ".join(dict.fromkeys("x".join(map(str, image.shape)) for image in images))
    non_finite = sum(int((~image.isfinite()).sum()) for image in images)
    finite = [values for values in (image[image.isfinite()] for image in images) if values.numel()]
    description = "no finite value"
    if finite:
        low, high = min(float(values.min()) for values in finite), max(float(v.max()) for v in finite)
        description = f"values {low:.6g} to {high:.6g}"
    return [f"batch: {len(images)} images of {shapes}; {description}; {non_finite} not finite"]


def _describe_instances(samples: list[Any]) -> list[str]:
    counts = [len(sample.gt_instances) for sample in samples]
    boxes = [_boxes(sample.gt_instances) for sample in samples]
    sizes = [box[:, 2:] - box[:, :2] for box in boxes]
    empty = sum(int((size <= 0).any(dim=1).sum()) for size in sizes)
    non_finite = sum(int((~size.isfinite()).any(dim=1).sum()) for size in sizes)
    return [
        f"instances per image: {', '.join(map(str, counts))}; images without: {counts.count(0)}",
        f"boxes without area: {empty}; boxes not finite: {non_finite}",
    ]


def _boxes(instances: Any) -> Tensor:
    boxes = instances.get("bboxes")
    boxes = getattr(boxes, "tensor", boxes)
    return boxes if isinstance(boxes, Tensor) else Tensor(0, 4)
