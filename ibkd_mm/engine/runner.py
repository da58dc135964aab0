"""mmengine's Runner with atomic checkpoints, exact resuming, the safety hooks, and a compiled network."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from ibkd_mm.config.overrides import register_config_key
from ibkd_mm.config.walk import walk
from ibkd_mm.engine.checkpoint.save import (
    TRAINING_ONLY,
    checkpoint_file,
    load_training_only,
    on_cpu,
    scheduler_states,
    training_state,
)
from ibkd_mm.engine.loops import ResumableLoop
from ibkd_mm.engine.memory_format import match_state_to_weights, to_memory_format
from ibkd_mm.engine.model_wrappers import optim_wrappers, unwrap_model
from ibkd_mm.engine.optim import FEW_GROUPS
from ibkd_mm.engine.workers import ignore_signals_in_workers, shut_down_workers
from ibkd_mm.errors import UserError
from ibkd_mm.registry import RUNNERS
from ibkd_mm.stack.internals import is_compiled
from ibkd_mm.utils.cores import usable_cores

register_config_key("memory_format", "compile")

_REPLACEMENTS = {
    "EpochBasedTrainLoop": "ibkd_mm.ResumableEpochLoop",
    "IterBasedTrainLoop": "ibkd_mm.ResumableIterLoop",
    "CheckpointHook": "ibkd_mm.WholeCheckpointHook",
}
_MMENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
_PROGRESS = {"last_step", "_global_step", "_last_value", "base_values"}  # what changes of a scheduler's state
SAFETY_HOOKS = {
    "data_position": {"type": "ibkd_mm.DataPositionHook"},
    "preemption": {"type": "ibkd_mm.PreemptionHook"},
    "non_finite": {"type": "ibkd_mm.NonFiniteGuard"},
    "bad_samples": {"type": "ibkd_mm.BadSampleGuard"},
}


@RUNNERS.register_module()
class ResumableRunner(Runner):
    """A Runner that writes checkpoints atomically, resumes exactly, and adds the safety hooks.

    It uses our training loops and checkpoint hook where a config names mmengine's; their settings are the
    same. Parameters with equal settings share a group. Keys of a config that it reads besides mmengine's:

    * `memory_format='channels_last'` makes convolutions on a CPU faster.
    * `compile=True`, or settings of `torch.compile`, compiles the backbone and the neck.
    * `env_cfg=dict(threads='spare')` computes on the cores that loader workers leave free: threads that wait
      for a core in use slow small images down. The environment variable OMP_NUM_THREADS has precedence.
    """

    # `_init_model_weights` and `_maybe_compile` are private in mmengine, which has no public methods to
    # override for them. `_train_loop`, `_val_loop` and `_test_loop` hold the loops before and after building.

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Set up the environment as mmengine does, and the number of threads."""
        super().setup_env(env_cfg)
        threads = env_cfg.get("threads")
        if threads not in (None, "spare"):
            raise UserError(f"env_cfg.threads is 'spare' or None, found {threads!r}.")
        if threads and "OMP_NUM_THREADS" not in os.environ:
            workers = (self.cfg.get("train_dataloader") or {}).get("num_workers", 0)
            torch.set_num_threads(max(1, usable_cores() - workers))

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Set the memory format of the weights before a wrapper makes buckets of them."""
        if self.cfg.get("memory_format") is not None:
            to_memory_format(model, self.cfg.memory_format)
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        """Initialise the weights in torch's default format, so that the format does not change them."""
        memory_format = self.cfg.get("memory_format")
        if memory_format is not None:
            to_memory_format(unwrap_model(self.model), None)
        super()._init_model_weights()
        if memory_format is not None:
            to_memory_format(unwrap_model(self.model), memory_format)

    def _maybe_compile(self, target: str) -> None:
        compile_network(self.model, self.cfg.get("compile"))

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Build the optimizer wrapper, with one group for all parameters of equal settings."""
        if isinstance(optim_wrapper, dict) and isinstance(optim_wrapper.get("optimizer"), dict):
            optim_wrapper = {**FEW_GROUPS, **optim_wrapper}
        return super().build_optim_wrapper(optim_wrapper)

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """Build the training loop, ours instead of mmengine's."""
        if isinstance(loop, dict):
            loop = dict(loop)
            if "by_epoch" in loop:
                loop["type"] = f"{'Epoch' if loop.pop('by_epoch') else 'Iter'}BasedTrainLoop"
            loop["type"] = _replacement(loop["type"])
        return super().build_train_loop(loop)

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader[Any]:
        """Build a data loader whose workers ignore the signals that end a training."""
        return ignore_signals_in_workers(Runner.build_dataloader(*args, **kwargs))

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register the default hooks: mmengine's, with our checkpoint hook, and the safety hooks."""
        merged = {"checkpoint": {"type": "CheckpointHook", "interval": 1}, **with_safety_hooks(hooks or {})}
        checkpoint = merged["checkpoint"]
        if isinstance(checkpoint, dict):
            merged["checkpoint"] = {**checkpoint, "type": _replacement(checkpoint["type"])}
        # mmengine removes its own hooks that are None, and fails on others
        super().register_default_hooks(
            {name: hook for name, hook in merged.items() if hook is not None or name in _MMENGINE_HOOKS}
        )

    def train(self) -> nn.Module:
        """Train; release signal handlers, module hooks and workers in any case."""
        try:
            return super().train()
        finally:
            for hook in self.hooks:
                getattr(hook, "close", lambda: None)()
            for loop in (self._train_loop, self._val_loop):
                shut_down_workers(loop)

    def val(self) -> dict[str, float]:
        """Validate, and end the workers."""
        try:
            return super().val()
        finally:
            shut_down_workers(self._val_loop)

    def test(self) -> dict[str, float]:
        """Test, and end the workers."""
        try:
            return super().test()
        finally:
            shut_down_workers(self._test_loop)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load the weights of a checkpoint; keep its training-only state for `resume`."""
        checkpoint: dict[str, Any] = super().load_checkpoint(*args, **kwargs)
        self._training_only = {key: checkpoint[key] for key in (TRAINING_ONLY,) if key in checkpoint}
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume a training with the samples and random numbers that the stopped run would have had."""
        planned = scheduler_states(self.param_schedulers or [])
        try:
            super().resume(filename, *args, **kwargs)
        except ValueError as error:
            if "parameter group" not in str(error):
                raise
            raise UserError(
                f"{filename} was written with other parameter groups: {error}. A checkpoint with a group for "
                "every parameter, as mmengine makes them, is resumed with "
                "--cfg-options optim_wrapper.constructor=DefaultOptimWrapperConstructor."
            ) from error
        if isinstance(self.optim_wrapper, OptimWrapper):
            for wrapper in optim_wrappers(self.optim_wrapper):
                match_state_to_weights(wrapper.optimizer)
        load_training_only(unwrap_model(self.model), self._training_only)
        self._training_only.clear()
        for change in _changed_settings(planned, scheduler_states(self.param_schedulers or [])):
            self.logger.warning(f"{change}: a schedule continues with the settings it began with.")
        if isinstance(self.train_loop, ResumableLoop):
            self.train_loop.reseed(self.seed)

    @master_only
    def save_checkpoint(  # type: ignore[override]
        self, out_dir: str, filename: str, *_: Any, meta: Any = None, by_epoch: bool = True, **options: Any
    ) -> None:
        """Save a checkpoint atomically in mmengine's layout, without the text of the config."""
        checkpoint = training_state(self, meta or {}, by_epoch)
        if options.get("save_optimizer", True):
            checkpoint["optimizer"] = on_cpu(self.optim_wrapper.state_dict())
        if options.get("save_param_scheduler", True) and self.param_schedulers is not None:
            checkpoint["param_schedulers"] = scheduler_states(self.param_schedulers)
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        path = Path(out_dir) / filename
        with checkpoint_file(path, Path(self.work_dir)) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)


def with_safety_hooks(hooks: Mapping[str, Any]) -> dict[str, Any]:
    """Add the safety hooks to a config's, where settings change one, None removes it, a hook replaces it."""
    merged = dict(hooks)
    for name, default in SAFETY_HOOKS.items():
        hook = hooks.get(name, default)
        merged[name] = {**default, **hook} if isinstance(hook, Mapping) else hook
    return merged


def compile_network(model: nn.Module, settings: Any) -> None:
    """Compile the backbone and the neck of a detector, or of the student in a distillation, once.

    mmengine compiles a whole step, with label assignment, whose shapes change with every batch, and the
    optimizer's hooks, which torch cannot trace.
    """
    if settings is None or settings is False:
        return
    if settings is not True and not isinstance(settings, dict):
        raise UserError(f"compile is True or settings of torch.compile, found {settings!r}.")
    model = unwrap_model(model)
    network = getattr(model, "architecture", model)
    parts = [getattr(network, name, None) for name in ("backbone", "neck")]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    if not modules:
        kind = type(network).__name__
        raise UserError(f"compile is for models with a backbone, {kind} has none. Remove compile.")
    for module in modules:
        if not is_compiled(module):
            module.compile(**({} if settings is True else settings))


def _changed_settings(planned: Any, resumed: Any) -> list[str]:
    """List the settings of schedulers that a checkpoint restored although the config has others."""
    restored = dict(walk(resumed, "param_scheduler"))
    return [
        f"{key} is {restored.get(key)} as in the checkpoint, not {value}"
        for key, value in walk(planned, "param_scheduler")
        if not isinstance(value, Mapping | list | tuple)
        and restored.get(key) != value
        and not _PROGRESS.intersection(key.split("."))
    ]


def _replacement(kind: Any) -> Any:
    name = kind if isinstance(kind, str) else kind.__name__
    return _REPLACEMENTS.get(name.removeprefix("mmengine."), kind)
