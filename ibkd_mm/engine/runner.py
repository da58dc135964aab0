"""mmengine's Runner, where nothing saved is lost and going on is exact."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ibkd_mm.config.keys import register_config_key
from ibkd_mm.engine.checkpoint.save import (
    TRAINING_ONLY,
    checkpoint_file,
    load_training_only,
    on_cpu,
    schedules,
    training_state,
)
from ibkd_mm.engine.compile import compile_network
from ibkd_mm.engine.loops import ResumableLoop
from ibkd_mm.engine.memory_format import match_state_to_weights, to_memory_format
from ibkd_mm.engine.model_wrappers import optim_wrappers, unwrap_model
from ibkd_mm.engine.optim.param_groups import FEW_GROUPS
from ibkd_mm.engine.workers import ignore_signals_in_workers, shut_down_workers
from ibkd_mm.errors import UserError
from ibkd_mm.registry import RUNNERS
from ibkd_mm.utils.cores import usable_cores

register_config_key("memory_format", "compile")

_LOOPS = {
    "EpochBasedTrainLoop": "ibkd_mm.ResumableEpochLoop",
    "IterBasedTrainLoop": "ibkd_mm.ResumableIterLoop",
}
_HOOKS = {"CheckpointHook": "ibkd_mm.WholeCheckpointHook"}
SAFETY_HOOKS = {
    "data_position": {"type": "ibkd_mm.DataPositionHook"},
    "preemption": {"type": "ibkd_mm.PreemptionHook"},
    "non_finite": {"type": "ibkd_mm.NonFiniteGuard"},
    "bad_samples": {"type": "ibkd_mm.BadSampleGuard"},
}
"""Entries of `default_hooks` that every training has unless its config sets them to None."""
_MMENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
_PROGRESS = ("last_step", "_global_step", "_last_value", "base_values")


@RUNNERS.register_module()
class ResumableRunner(Runner):
    """A Runner that writes checkpoints atomically, resumes exactly, and adds `SAFETY_HOOKS`.

    mmengine's two training loops and its checkpoint hook are replaced by ours, which take the same
    settings; a config names upstream's or ours. Parameters of equal settings are one group.
    `memory_format='channels_last'` lays maps out in memory so that a CPU's convolutions are faster. `compile`
    compiles the backbone and the neck. `env_cfg=dict(threads='spare')` computes on the cores that the
    loader's workers leave: on small pictures, threads that wait for a core which a worker has are slower than
    none. OMP_NUM_THREADS wins.
    """

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Set up what mmengine does, and the number of threads."""
        super().setup_env(env_cfg)
        threads = env_cfg.get("threads")
        if threads not in (None, "spare"):
            raise UserError(f"env_cfg.threads is 'spare' or None, found {threads!r}.")
        if threads and "OMP_NUM_THREADS" not in os.environ:
            workers = (self.cfg.get("train_dataloader") or {}).get("num_workers", 0)
            torch.set_num_threads(max(1, usable_cores() - workers))

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Lay the weights out as maps are to lie, before a wrapper makes buckets of them."""
        if self.cfg.get("memory_format") is not None:
            to_memory_format(model, self.cfg.memory_format)
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        """Draw the first weights in one order, however they are to lie."""
        layout = self.cfg.get("memory_format")
        if layout is not None:
            to_memory_format(unwrap_model(self.model), None)
        super()._init_model_weights()
        if layout is not None:
            to_memory_format(unwrap_model(self.model), layout)

    def _maybe_compile(self, target: str) -> None:
        """Compile what is worth it, whichever step is to be run."""
        compile_network(self.model, self.cfg.get("compile"))

    def build_optim_wrapper(
        self, optim_wrapper: Optimizer | OptimWrapper | dict[str, Any]
    ) -> OptimWrapper | OptimWrapperDict:
        """Build it, with as few groups of parameters as their settings ask for."""
        if isinstance(optim_wrapper, dict) and isinstance(optim_wrapper.get("optimizer"), dict):
            optim_wrapper = {**FEW_GROUPS, **optim_wrapper}
        return super().build_optim_wrapper(optim_wrapper)

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the loop, ours in place of mmengine's."""
        if isinstance(loop, dict):
            loop = dict(loop)
            if "by_epoch" in loop:
                loop["type"] = f"{'Epoch' if loop.pop('by_epoch') else 'Iter'}BasedTrainLoop"
            loop["type"] = _ours(loop["type"], _LOOPS)
        return super().build_train_loop(loop)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader[Any] | dict[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader[Any]:
        """Build a loader, of validation too, whose workers outlive the signal that ends a training."""
        return ignore_signals_in_workers(Runner.build_dataloader(dataloader, seed, diff_rank_seed))

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register mmengine's hooks, the one that saves checkpoints replaced by ours, and the safety hooks."""
        chosen = {"checkpoint": {"type": "CheckpointHook", "interval": 1}, **with_safety_hooks(hooks or {})}
        saving = chosen["checkpoint"]
        if isinstance(saving, dict):
            chosen["checkpoint"] = {**saving, "type": _ours(saving["type"], _HOOKS)}
        # mmengine drops its own hooks when they are None, and fails on others
        super().register_default_hooks(
            {name: hook for name, hook in chosen.items() if hook is not None or name in _MMENGINE_HOOKS}
        )

    def train(self) -> nn.Module:
        """Train; whatever happens, signals, module hooks and workers are given back."""
        try:
            return super().train()
        finally:
            for hook in self.hooks:
                close = getattr(hook, "close", None)
                if close is not None:
                    close()
            for loop in (self._train_loop, self._val_loop):
                shut_down_workers(loop)

    def val(self) -> dict[str, float]:
        """Validate, and give the workers back."""
        try:
            return super().val()
        finally:
            shut_down_workers(self._val_loop)

    def test(self) -> dict[str, float]:
        """Test, and give the workers back."""
        try:
            return super().test()
        finally:
            shut_down_workers(self._test_loop)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load the weights of a checkpoint, and keep at hand what is trained beside them."""
        checkpoint: dict[str, Any] = super().load_checkpoint(*args, **kwargs)
        self._loaded = {key: checkpoint[key] for key in (TRAINING_ONLY,) if key in checkpoint}
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume, and draw the samples that the stopped run would have drawn."""
        planned = schedules(self.param_schedulers or [])
        try:
            super().resume(filename, *args, **kwargs)
        except ValueError as error:
            if "parameter group" not in str(error):
                raise
            raise UserError(
                f"{filename} was written with other groups of parameters: {error}. One that mmengine made of "
                "each parameter is resumed with "
                "--cfg-options optim_wrapper.constructor=DefaultOptimWrapperConstructor."
            ) from error
        if isinstance(self.optim_wrapper, OptimWrapper):
            for wrapper in optim_wrappers(self.optim_wrapper):
                match_state_to_weights(wrapper.optimizer)
        load_training_only(unwrap_model(self.model), self._loaded)
        self._loaded.clear()
        for change in _overruled(planned, schedules(self.param_schedulers or []), "param_scheduler"):
            self.logger.warning(f"{change}: a schedule goes on as it began.")
        if isinstance(self.train_loop, ResumableLoop):
            self.train_loop.reseed(self.seed)

    @master_only
    def save_checkpoint(  # type: ignore[override]
        self,
        out_dir: str,
        filename: str,
        *_: Any,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict[str, Any] | None = None,
        by_epoch: bool = True,
        **__: Any,
    ) -> None:
        """Save a checkpoint whole or leave what was there; mmengine's layout without the config's text."""
        checkpoint = training_state(self, meta or {}, by_epoch)
        if save_optimizer:
            checkpoint["optimizer"] = on_cpu(self.optim_wrapper.state_dict())
        if save_param_scheduler and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = schedules(self.param_schedulers)
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        with (
            checkpoint_file(Path(out_dir) / filename, Path(self.work_dir)) as partial,
            partial.open("wb") as file,
        ):
            torch.save(checkpoint, file)


def _overruled(planned: Any, resumed: Any, at: str) -> list[str]:
    """Name the settings of schedules that a checkpoint brought along, where the config has others."""
    if isinstance(planned, dict) and "last_step" not in planned:
        return [line for name in planned for line in _overruled(planned[name], resumed[name], f"{at}.{name}")]
    if isinstance(planned, list):
        pairs = enumerate(zip(planned, resumed, strict=False))
        return [line for index, pair in pairs for line in _overruled(*pair, f"{at}.{index}")]
    return [
        f"{at}.{key} is {resumed[key]} as in the checkpoint, not {value}"
        for key, value in planned.items()
        if key not in _PROGRESS and resumed.get(key) != value
    ]


def with_safety_hooks(hooks: Mapping[str, Any]) -> dict[str, Any]:
    """Add `SAFETY_HOOKS` to a config's `default_hooks`; a setting of one keeps the others."""
    added = {
        name: {**default, **(hooks.get(name) or {})}
        for name, default in SAFETY_HOOKS.items()
        if hooks.get(name, default) is not None
    }
    return {**hooks, **added}


def _ours(kind: Any, replaced: dict[str, str]) -> Any:
    name = kind if isinstance(kind, str) else kind.__name__
    return replaced.get(name.removeprefix("mmengine."), kind)
