"""Run a saved training step again, and find where its numbers stop being finite."""

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
    """One loss term of a replayed step.

    Args:
        name: name of the term.
        value: its value in the replay.
        recorded: its value in the training; None if the training did not record it.
        spoilt: the modules whose gradient from this term is not finite.
    """

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
    """Build the config's model with the weights and the training-only state of the step."""
    settings = dict(config.model)
    if config.get("data_preprocessor"):
        settings.setdefault("data_preprocessor", config.data_preprocessor)
    model = revert_sync_batchnorm(MODELS.build(settings).to(get_device()))
    to_memory_format(model, config.get("memory_format"))
    problem = f"The weights in the file do not fit the model of {config.filename}"
    load_all_weights(model, step.state_dict, problem)
    if hasattr(model, "load_training_only_state"):
        model.load_training_only_state(step.training_only)
    if "factors" in step.training_only:  # a training computes these from its schedules, a replay has none
        model.distiller.factors.update(step.training_only["factors"])
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

    handles = [
        module.register_forward_hook(partial(check, name)) for name, module in model.named_modules() if name
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _non_finite_gradients(term: Tensor, model: nn.Module) -> list[str]:
    """Name the modules whose gradient from this term alone is not finite."""
    if not term.requires_grad:
        return []
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(term, list(parameters.values()), retain_graph=True, allow_unused=True)
    pairs = zip(parameters, gradients, strict=True)
    return non_finite_owners({name: gradient for name, gradient in pairs if gradient is not None})
