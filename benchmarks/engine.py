"""Measure what the safety hooks and saving cost: runs with and without the hooks, interleaved.

    python benchmarks/engine.py CONFIG [--steps 40] [--rounds 3] [--interval 500]

The hooks are measured with the config's own model and data. Saving is timed separately and distributed over
the steps between two checkpoints.
"""

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from ibkd_mm.apis.run_config import build_runner, prepare
from ibkd_mm.engine.runner import SAFETY_HOOKS

WARM_UP = 5
"""Steps at the beginning of a run that do not count."""


class StepClock(Hook):
    """Record the time at the end of each step, after all other hooks."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def measure(config: str, steps: int, with_hooks: bool, folder: str) -> tuple[list[float], float]:
    """Train for some steps; return the seconds of each step and of saving one checkpoint."""
    options: dict[str, Any] = {"train_cfg.max_iters": steps, "default_hooks.logger.interval": 10 * steps}
    if not with_hooks:
        options |= {f"default_hooks.{name}": None for name in SAFETY_HOOKS}
    prepared = prepare(config, "training", options, folder, "none")
    prepared.val_cfg = prepared.val_dataloader = prepared.val_evaluator = None
    prepared.default_hooks.checkpoint.interval, prepared.default_hooks.checkpoint.save_last = -1, False
    runner = build_runner(prepared, "load_from")
    clock = StepClock()
    runner.register_hook(clock)
    runner.train()
    start = time.perf_counter()
    runner.save_checkpoint(folder, "benchmark.pth", meta={"epoch": 0, "iter": steps})
    saving = time.perf_counter() - start
    ends = clock.ends[WARM_UP:]
    return [later - earlier for earlier, later in pairwise(ends)], saving


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--interval", type=int, default=500, help="steps between two checkpoints")
    args = parser.parse_args()
    times: dict[bool, list[float]] = {True: [], False: []}
    saves: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2 * args.rounds):
            with_hooks = turn % 2 == 1
            seconds, saving = measure(args.config, args.steps, with_hooks, str(Path(folder) / str(turn)))
            times[with_hooks] += seconds
            saves.append(saving)
    without, with_all = (statistics.median(times[kind]) for kind in (False, True))
    save = statistics.median(saves)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {args.config}")
    print(f"step without safety hooks {without * 1e3:8.2f} ms")
    print(f"step with safety hooks    {with_all * 1e3:8.2f} ms   {with_all / without - 1:+.2%}")
    share = save / args.interval / without
    print(f"one checkpoint            {save * 1e3:8.2f} ms   {share:.2%} every {args.interval} steps")


if __name__ == "__main__":
    main()
