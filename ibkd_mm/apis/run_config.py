"""What `train` and `test` share: prepare a run's config, and build its runner."""

from itertools import count
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ibkd_mm.config.load import ConfigLike, Options, prepare_config
from ibkd_mm.engine import CheckpointGuard
from ibkd_mm.engine.distributed import init_processes
from ibkd_mm.engine.runner import with_safety_hooks

_runs = count()


def prepare(
    config: ConfigLike, purpose: str, options: Options, work_dir: str | None, launcher: str
) -> Config:
    """Prepare a config for a 'training' or 'test': options, work dir, experiment name and launcher."""
    ready = prepare_config(config, options, purpose, add_defaults=add_defaults)
    name = Path(ready.filename).stem if ready.filename else "run"
    ready.work_dir = work_dir or ready.get("work_dir") or f"./work_dirs/{name}"
    if run := next(_runs):
        # mmengine keeps loggers, histories and visualizers by name; a second run in a process needs new ones.
        ready.experiment_name = f"{ready.get('experiment_name') or name}_{run}"
        if isinstance(ready.get("visualizer"), dict):
            ready.visualizer.name = ready.experiment_name
    init_processes(ready, launcher)
    return ready


def add_defaults(config: Config) -> None:
    """Add this package's runner and safety hooks to a config that does not name others."""
    config.setdefault("runner_type", "ibkd_mm.ResumableRunner")
    config.default_hooks = with_safety_hooks(config.get("default_hooks") or {})


def build_runner(config: Config, purpose: str) -> Runner:
    """Build the config's runner, with a hook that checks the checkpoint which it loads for `purpose`."""
    runner = RUNNERS.build(config) if "runner_type" in config else Runner.from_cfg(config)
    runner.register_hook(CheckpointGuard(purpose))
    return runner
