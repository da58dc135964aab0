"""What training and testing share: a config made ready, and a runner built from it."""

import copy
from itertools import count
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import ibkd_mm.engine as engine
from ibkd_mm.config.load import ConfigLike, Options, check_keys, keep_student_only, load_config
from ibkd_mm.config.overrides import apply_overrides
from ibkd_mm.engine.checkpoint.sources import PREFIXES, locate
from ibkd_mm.engine.distributed import init_processes
from ibkd_mm.engine.safety_hooks import with_safety_hooks

_runs = count()


def prepare(
    config: ConfigLike, purpose: str, options: Options, work_dir: str | None, launcher: str
) -> Config:
    """Load or copy the config, override it, and settle where the run's files go."""
    ready = _guarded(copy.deepcopy(config) if isinstance(config, Config) else load_config(config))
    apply_overrides(ready, options or {})
    check_keys(ready, purpose)
    if purpose == "test":
        keep_student_only(ready)
    stem = Path(ready.filename).stem if ready.filename else "run"
    ready.work_dir = work_dir or ready.get("work_dir") or f"./work_dirs/{stem}"
    run = next(_runs)
    if run:
        # mmengine keeps loggers, histories and visualizers by name; a second run of a process needs its own.
        ready.experiment_name = f"{ready.get('experiment_name') or stem}_{run}"
        if isinstance(ready.get("visualizer"), dict):
            ready.visualizer.name = ready.experiment_name
    init_processes(ready, launcher)
    return ready


def _guarded(config: Config) -> Config:
    """Give any config the runner and the safety hooks that ours have, so that options may change them."""
    config.setdefault("runner_type", "ibkd_mm.ResumableRunner")
    config.default_hooks = with_safety_hooks(config.get("default_hooks") or {})
    return config


def build_runner(config: Config, purpose: str) -> Runner:
    """Build the config's runner, with a guard over the checkpoint that it will load."""
    runner = RUNNERS.build(config) if "runner_type" in config else Runner.from_cfg(config)
    runner.register_hook(engine.CheckpointGuard(purpose))
    return runner


def check_checkpoint_exists(reference: str) -> None:
    """Refuse a file that is not there before anything is built; what must be fetched waits."""
    remote = tuple(prefix for prefix in PREFIXES if prefix.endswith("//"))
    if not reference.startswith(remote):
        locate(reference)
