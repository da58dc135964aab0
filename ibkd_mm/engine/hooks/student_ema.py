"""An exponential moving average of what is trained, and of nothing else."""

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

_EVALUATE = ("ema", "raw", "both")


def trained_entries(model: nn.Module) -> dict[str, Tensor]:
    """Name the entries of the model's `state_dict` that training moves, as the live tensors.

    These are the parameters that require a gradient, and the floating-point buffers of a module that owns
    such a parameter itself: the statistics of a norm layer that is trained. So what is frozen is left out,
    and a teacher that is no part of the `state_dict`. Whatever else there is, counters too, stays the raw
    weights' in a checkpoint.
    """
    statistics = {
        id(buffer)
        for module in model.modules()
        if any(one.requires_grad for one in module.parameters(recurse=False))
        for buffer in module.buffers(recurse=False)
        if buffer.is_floating_point()
    }
    entries = model.state_dict(keep_vars=True).items()
    return {
        name: one
        for name, one in entries
        if isinstance(one, Tensor) and (one.requires_grad or id(one) in statistics)
    }


@HOOKS.register_module()
class StudentEMAHook(Hook):
    """Average what is trained, evaluate with the average, and save it as the weights.

    After the t-th step, average <- d * average + (1 - d) * weight with d = decay * (1 - exp(-t / warmup)). A
    step counts where an optimizer had gradients to use: not inside an accumulation, not where a scaler or
    NonFiniteGuard left it out.

    A checkpoint's `state_dict` holds the average, so that it is what any test or deployment loads; the
    weights themselves stand under `raw_state_dict`, and the number of steps under `ema`.

    Acts first of all hooks: before_train, after_train_iter, around validation and test, and whenever a
    checkpoint is saved or loaded. While a model is evaluated, average and weights change places for each
    call of the model alone: whatever fails or saves in between finds the weights in their place.

    Args:
        decay: how much of the average stays in a step, at last.
        warmup: steps in which the decay rises to 63 % of that; 0 for a decay that never changes.
        evaluate: 'ema' or 'raw', or 'both': the raw weights' metrics then stand under `raw/`, beside the
            average's, by which the best checkpoint is chosen. A test takes the average for 'both'.
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
            raise UserError(
                f"StudentEMAHook expects evaluate='ema', 'raw' or 'both', found {evaluate!r}.{hint}"
            )
        self.decay, self.warmup, self.evaluate = decay, warmup, evaluate
        self.updates = 0
        self._averages: list[Tensor] | None = None
        self._loaded: tuple[Any, Any] = (None, None)
        self._training: list[Any] = []
        self._evaluating: list[Any] = []
        self._swapped = self._stepped = False

    def before_train(self, runner: Runner) -> None:
        """Begin from the weights as they are, or where the checkpoint left off."""
        self.close()
        self._model = unwrap_model(runner.model)
        if self._averages is None:
            self._begin(runner)
        self._training = [
            wrapper.optimizer.register_step_post_hook(self._note_step)
            for wrapper in optim_wrappers(runner.optim_wrapper)
        ]

    @torch.no_grad()
    def _begin(self, runner: Runner) -> None:
        entries = trained_entries(self._model)
        if not entries:
            raise UserError("StudentEMAHook finds nothing to average: no parameter of the model is trained.")
        # Weights that two modules share have two names and are averaged once.
        live = {id(one): one for one in entries.values()}
        place = {key: index for index, key in enumerate(live)}
        self._live = list(live.values())
        self._places = {name: place[id(one)] for name, one in entries.items()}
        self._averages = [one.detach().clone() for one in self._live]
        (raw, state), self._loaded = self._loaded, (None, None)
        if not runner.iter:
            return
        if raw is None or state is None:
            runner.logger.warning(
                "The checkpoint has no average of StudentEMAHook: one begins with its weights."
            )
            return
        self.updates = state["updates"]
        for name, index in self._places.items():
            if name in raw:
                self._live[index].copy_(raw[name])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed training goes on from; the model itself loads the average."""
        self._loaded = checkpoint.get("raw_state_dict"), checkpoint.get("ema")

    def _note_step(self, optimizer: Any, *_: Any) -> None:
        left_out = getattr(optimizer, "found_inf", None)  # a scaler tells it to a fused optimizer alone
        self._stepped = self._stepped or (bool(gradients(optimizer)) and not left_out)

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Move the average after a step."""
        if self._stepped and self._averages is not None:
            self._stepped = False
            self.updates += 1
            rising = 1 - math.exp(-self.updates / self.warmup) if self.warmup else 1.0
            torch._foreach_lerp_(self._averages, self._live, 1 - self.decay * rising)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the average where the weights stand, and these beside it."""
        if self._averages is None:
            return
        self._put_back()
        weights = checkpoint["state_dict"]
        checkpoint["raw_state_dict"] = {name: weights[name] for name in self._places}
        checkpoint["ema"] = {"updates": self.updates}
        weights.update({name: self._averages[index].cpu() for name, index in self._places.items()})

    def before_val_epoch(self, runner: Runner) -> None:
        """Let the model predict with the average."""
        self._detach(self._evaluating)
        if self._averages is not None and self.evaluate != "raw":
            before = self._model.register_forward_pre_hook(self._swap_in)
            # Also where the call raises an error.
            after = self._model.register_forward_hook(self._swap_out, always_call=True)
            self._evaluating = [before, after]

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Let the model predict with its own weights, and for 'both' validate them too."""
        self._detach(self._evaluating)
        if self._averages is not None and self.evaluate == "both" and metrics is not None:
            runner.logger.info("Validating the raw weights.")
            metrics.update({f"raw/{name}": value for name, value in _validate(runner).items()})

    def before_test_epoch(self, runner: Runner) -> None:
        """Let the model predict with the average, where it was trained by this very process."""
        self.before_val_epoch(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Let the model predict with its own weights."""
        self._detach(self._evaluating)

    def close(self) -> None:
        """Detach from model and optimizers, with every weight in its place."""
        self._detach(self._training)
        self._detach(self._evaluating)

    def _detach(self, handles: list[Any]) -> None:
        for handle in handles:
            handle.remove()
        handles.clear()
        self._put_back()

    def _swap_in(self, model: nn.Module, *_: Any) -> None:
        if not self._swapped and not model.training:
            self._swap()

    def _swap_out(self, *_: Any) -> None:
        self._put_back()

    def _put_back(self) -> None:
        if self._swapped:
            self._swap()

    def _swap(self) -> None:
        """Exchange what weights and averages point to; nothing is copied."""
        assert self._averages is not None
        for index, one in enumerate(self._live):
            one.data, self._averages[index] = self._averages[index], one.data
        self._swapped = not self._swapped


def _validate(runner: Runner) -> dict[str, Any]:
    """Run the validation once more with no hook listening."""
    quiet = SimpleNamespace(model=runner.model, visualizer=runner.visualizer, call_hook=lambda *_, **__: None)
    fp16 = getattr(runner.val_loop, "fp16", False)
    return ValLoop(quiet, runner.val_dataloader, runner.val_evaluator, fp16=fp16).run()
