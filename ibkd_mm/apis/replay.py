"""One step of a training run again, from the file that the training left when it stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ibkd_mm.config.load import ConfigLike, load_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.distill import FrozenTeacherDistill
from ibkd_mm.engine import load_matching_weights
from ibkd_mm.engine.finite import join_first, loss_terms, non_finite_owners
from ibkd_mm.engine.memory_format import to_memory_format
from ibkd_mm.engine.model_wrappers import optim_wrappers
from ibkd_mm.engine.replay.describe_batch import describe_batch
from ibkd_mm.engine.replay.file import Step, read_step, versions
from ibkd_mm.errors import UserError
from ibkd_mm.utils.rng import seed_everything


@dataclass(frozen=True)
class Term:
    """One loss term: its value now and in the training, and the modules whose gradient is not finite."""

    name: str
    value: float
    then: float | None
    spoilt: list[str]

    @property
    def row(self) -> tuple[str, ...]:
        """What a table shows of it."""
        then = "" if self.then is None else f"{self.then:.9g}"
        gradient = f"not finite: {join_first(self.spoilt)}" if self.spoilt else "finite"
        return self.name, f"{self.value:.9g}", then, gradient


@dataclass(frozen=True)
class Replayed:
    """What came of the step: its loss terms, the first module whose output is not finite, its batch."""

    place: tuple[int, int, int]
    terms: list[Term]
    first_module: str | None
    batch: list[str]
    notes: list[str]

    def __str__(self) -> str:
        rows = [("loss term", "now", "in the training", "gradient"), *(term.row for term in self.terms)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
            for row in rows
        ]
        seed, rank, iteration = self.place
        module = self.first_module or "none; look at the loss itself, or at what it is compared with"
        lines = [*table, f"first module whose output is not finite: {module}", *self.batch, *self.notes]
        head = f"Iteration {iteration + 1} of process {rank}, seed {seed}:"
        return "\n".join([head, *(f"  {line.rstrip()}" for line in lines)])


def replay(file: str, *, config: ConfigLike | None = None) -> Replayed:
    """Run a step again: the same weights, batch, random numbers and precision, in one process.

    Args:
        file: a `.replay` file of a training that stopped.
        config: the training's config; else the one beside the file that the training wrote there.
    """
    path = Path(file)
    step = read_step(path)
    if config is None and not (path.parent / step.config).is_file():
        raise UserError(f"There is no {step.config} beside {path}. Give the training's config by --config.")
    ready = config if isinstance(config, Config) else load_config(config or path.parent / step.config)
    batch = describe_batch(step.batch)
    with user_errors(ready):
        model = _build(ready, step)
        losses, module = _forward(ready, model, step)
    terms = [
        Term(name, float(value), step.losses.get(name), _spoilt(value, model))
        for name, value in loss_terms(losses).items()
    ]
    return Replayed((step.seed, step.rank, step.iteration), terms, module, batch, _notes(step))


def _build(config: Config, step: Step) -> Any:
    init_default_scope(config.get("default_scope") or "mmengine")
    settings = dict(config.model)
    if config.get("data_preprocessor"):
        settings.setdefault("data_preprocessor", config.data_preprocessor)
    model = revert_sync_batchnorm(MODELS.build(settings).to(get_device()))
    to_memory_format(model, config.get("memory_format"))
    mismatch = load_matching_weights(model, step.state_dict)
    if mismatch:
        raise UserError(f"The weights in the file do not fit the model of {config.filename}:\n{mismatch}")
    if isinstance(model, FrozenTeacherDistill):
        model.load_training_only_state(step.training_only)
        model.distiller.factors.update(step.training_only["factors"])
    model.train()
    return model


def _forward(config: Config, model: Any, step: Step) -> tuple[dict[str, Any], str | None]:
    wrapper = optim_wrappers(build_optim_wrapper(model, config.optim_wrapper))[0]
    MessageHub.get_current_instance().update_info("iter", step.iteration)  # some losses have schedules
    seed_everything(step.seed, step.rank, step.iteration)
    with wrapper.optim_context(model), _watched(model) as found:
        data = model.data_preprocessor(step.batch, True)
        losses = model(**data, mode="loss") if isinstance(data, dict) else model(*data, mode="loss")
    return losses, next(iter(found), None)


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    """Note the modules whose output is not finite; inner modules come before those that they are part of."""
    found: list[str] = []

    def note(name: str, module: nn.Module, _: Any, output: Any) -> None:
        if any(not one.isfinite().all() for one in _tensors(output)):
            found.append(f"{name} ({type(module).__name__})")

    handles = [
        module.register_forward_hook(partial(note, name)) for name, module in model.named_modules() if name
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor) and output.is_floating_point():
        yield output
    elif isinstance(output, dict | list | tuple):
        for one in output.values() if isinstance(output, dict) else output:
            yield from _tensors(one)


def _spoilt(term: Tensor, model: nn.Module) -> list[str]:
    """The modules whose gradient from this term alone is not finite."""
    parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
    if not term.requires_grad:
        return []
    found = torch.autograd.grad(term, list(parameters.values()), retain_graph=True, allow_unused=True)
    return non_finite_owners(
        {name: one for name, one in zip(parameters, found, strict=True) if one is not None}
    )


def _notes(step: Step) -> list[str]:
    now = versions()
    changed = [
        f"{name} {then}, now {now.get(name)}" for name, then in step.versions.items() if then != now.get(name)
    ]
    return [f"other versions in the training: {'; '.join(changed)}"] if changed else []
