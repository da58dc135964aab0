"""The hook that keeps an exponential moving average (EMA) of what is trained."""

import math
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, ValLoop
from torch import Tensor, nn

from ibkd_mm.engine.model_wrappers import gradients, optim_wrappers, unwrap_model
from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.registry import HOOKS
from ibkd_mm.stack.internals import lerp_tensors

_EVALUATE = ("ema", "raw", "both")


def trained_entries(model: nn.Module) -> dict[str, Tensor]:
    """Return the live entries of the `state_dict` that training changes: weights and statistics of norms."""
    statistics = {
        id(buffer)
        for module in model.modules()
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        for buffer in module.buffers(recurse=False)
        if buffer.is_floating_point()
    }
    return {
        name: value
        for name, value in model.state_dict(keep_vars=True).items()
        if isinstance(value, Tensor) and (value.requires_grad or id(value) in statistics)
    }


@HOOKS.register_module()
class StudentEMAHook(Hook):
    """Average what is trained, evaluate with the average, and save it as the weights.

    After step t, average <- d * average + (1 - d) * weight with d = decay * (1 - exp(-t / warmup)). A step
    counts if an optimizer had gradients: not within gradient accumulation, and not if a gradient scaler or
    NonFiniteGuard skipped it.

    A checkpoint's `state_dict` holds the average, which any test or deployment loads; the raw weights are
    under `raw_state_dict`, the number of steps under `ema`.

    Acts before all other hooks. In evaluation, average and weights are swapped only during each call of the
    model: between calls, and after an error, the model has its own weights.

    Args:
        decay: final decay of the average per step.
        warmup: steps until the decay reaches 63 % of it; 0 for a constant decay.
        evaluate: 'ema', 'raw', or 'both', which adds the metrics of the raw weights under `raw/`; the
            best checkpoint is chosen by the average's. A test uses the average for 'both'.
    """

    priority = "HIGHEST"

    def __init__(self, decay: float = 0.9999, warmup: int = 2000, evaluate: str = "ema") -> None:
        if not 0 <= decay < 1 or warmup < 0:
            raise UserError(
                "StudentEMAHook expects a decay from 0 to below 1 and a warmup of at least 0 steps, found "
                f"{decay} and {warmup}."
            )
        if evaluate not in _EVALUATE:
            hint = did_you_mean(str(evaluate), _EVALUATE)
            raise UserError(f"StudentEMAHook.evaluate is 'ema', 'raw' or 'both', found {evaluate!r}.{hint}")
        self.decay, self.warmup, self.evaluate = decay, warmup, evaluate
        self.updates = 0
        self._averages: list[Tensor] | None = None
        self._loaded: tuple[Any, Any] = (None, None)
        self._train_handles: list[Any] = []
        self._eval_handles: list[Any] = []
        self._swapped = self._stepped = False

    def before_train(self, runner: Runner) -> None:
        """Start with the weights, or with the average of the checkpoint that is resumed."""
        self.close()
        self._model = unwrap_model(runner.model)
        if self._averages is None:
            self._start(runner)
        optimizers = [wrapper.optimizer for wrapper in optim_wrappers(runner.optim_wrapper)]
        self._train_handles = [each.register_step_post_hook(self._on_step) for each in optimizers]

    @torch.no_grad()
    def _start(self, runner: Runner) -> None:
        entries = trained_entries(self._model)
        if not entries:
            raise UserError("StudentEMAHook finds nothing to average: no parameter of the model is trained.")
        # Weights that two modules share have two names and are averaged once.
        self._weights = list({id(value): value for value in entries.values()}.values())
        index = {id(value): number for number, value in enumerate(self._weights)}
        self._index = {name: index[id(value)] for name, value in entries.items()}
        self._averages = [value.detach().clone() for value in self._weights]
        (raw, state), self._loaded = self._loaded, (None, None)
        if not runner.iter:
            return
        if raw is None or state is None:
            runner.logger.warning(
                "The checkpoint has no average of StudentEMAHook: a new one starts with its weights."
            )
            return
        self.updates = state["updates"]
        for name, number in self._index.items():
            if name in raw:
                self._weights[number].copy_(raw[name])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the raw weights for a resumed training; the model itself loads the average."""
        self._loaded = checkpoint.get("raw_state_dict"), checkpoint.get("ema")

    def _on_step(self, optimizer: Any, *_: Any) -> None:
        skipped = getattr(optimizer, "found_inf", None)  # how a scaler makes a fused optimizer skip
        self._stepped = self._stepped or (bool(gradients(optimizer)) and not skipped)

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Update the average after a step."""
        if self._stepped and self._averages is not None:
            self._stepped = False
            self.updates += 1
            rising = 1 - math.exp(-self.updates / self.warmup) if self.warmup else 1.0
            lerp_tensors(self._averages, self._weights, 1 - self.decay * rising)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save the average as the weights, and the weights beside it."""
        if self._averages is None:
            return
        self._swap_back()
        weights = checkpoint["state_dict"]
        checkpoint["raw_state_dict"] = {name: weights[name] for name in self._index}
        checkpoint["ema"] = {"updates": self.updates}
        weights.update({name: self._averages[number].cpu() for name, number in self._index.items()})

    def before_val_epoch(self, runner: Runner) -> None:
        """Let the model predict with the average."""
        self._detach(self._eval_handles)
        if self._averages is not None and self.evaluate != "raw":
            before = self._model.register_forward_pre_hook(self._swap_in)
            after = self._model.register_forward_hook(self._swap_back, always_call=True)  # even if it fails
            self._eval_handles = [before, after]

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Let the model predict with its weights again, and for 'both' validate them too."""
        self._detach(self._eval_handles)
        if self._averages is not None and self.evaluate == "both" and metrics is not None:
            runner.logger.info("Validating the raw weights.")
            metrics.update({f"raw/{name}": value for name, value in _validate(runner).items()})

    before_test_epoch = before_val_epoch  # has an average only if this process trained the model

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Let the model predict with its weights again."""
        self._detach(self._eval_handles)

    def close(self) -> None:
        """Restore the model's own weights, and detach from model and optimizers."""
        self._detach(self._train_handles)
        self._detach(self._eval_handles)

    def _detach(self, handles: list[Any]) -> None:
        for handle in handles:
            handle.remove()
        handles.clear()
        self._swap_back()

    def _swap_in(self, model: nn.Module, *_: Any) -> None:
        if not self._swapped and not model.training:
            self._swap()

    def _swap_back(self, *_: Any) -> None:
        if self._swapped:
            self._swap()

    def _swap(self) -> None:
        assert self._averages is not None
        for number, weight in enumerate(self._weights):
            weight.data, self._averages[number] = self._averages[number], weight.data
        self._swapped = not self._swapped


def _validate(runner: Runner) -> dict[str, Any]:
    """Repeat the validation without calling hooks."""
    model, visualizer, fp16 = runner.model, runner.visualizer, getattr(runner.val_loop, "fp16", False)
    hookless = SimpleNamespace(model=model, visualizer=visualizer, call_hook=lambda *_, **__: None)
    return ValLoop(hookless, runner.val_dataloader, runner.val_evaluator, fp16=fp16).run()
