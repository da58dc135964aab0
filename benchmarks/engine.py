"""What saving and guarding cost of a training step: runs with and without the guards, interleaved.

    python benchmarks/engine.py CONFIG [--steps 40] [--rounds 3] [--interval 500]

The guards' share is measured on the config's own model and data; a save is timed by itself and spread over
the steps between two saves.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from ibkd_mm.apis.run_config import build_runner, prepare


class Clock(Hook):
    """Note when each step begins and ends, all hooks included."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def seconds_a_step(config: str, steps: int, guarded: bool, folder: str) -> tuple[list[float], float]:
    """Train some steps and return what each took, and what one save took."""
    options: dict[str, Any] = {"train_cfg.max_iters": steps, "default_hooks.logger.interval": 10 * steps}
    if not guarded:
        options |= {
            f"default_hooks.{name}": None
            for name in ("data_position", "preemption", "non_finite", "bad_samples")
        }
    ready = prepare(config, "training", options, folder, "none")
    ready.val_cfg = ready.val_dataloader = ready.val_evaluator = None
    ready.default_hooks.checkpoint.interval, ready.default_hooks.checkpoint.save_last = -1, False
    runner = build_runner(ready, "load_from")
    clock = Clock()
    runner.register_hook(clock)
    runner.train()
    began = time.perf_counter()
    runner.save_checkpoint(folder, "benchmark.pth", meta={"epoch": 0, "iter": steps})
    saved = time.perf_counter() - began
    return [later - earlier for earlier, later in zip(clock.ends[5:-1], clock.ends[6:], strict=True)], saved


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--interval", type=int, default=500, help="steps between two saves")
    args = parser.parse_args()
    times: dict[bool, list[float]] = {True: [], False: []}
    saves: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2 * args.rounds):
            steps, saved = seconds_a_step(
                args.config, args.steps, turn % 2 == 1, str(Path(folder) / str(turn))
            )
            times[turn % 2 == 1] += steps
            saves.append(saved)
    plain, guarded = (statistics.median(times[kind]) for kind in (False, True))
    save = statistics.median(saves)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {args.config}")
    print(f"step without guards {plain * 1e3:8.2f} ms")
    print(f"step with guards    {guarded * 1e3:8.2f} ms   {guarded / plain - 1:+.2%}")
    share = save / args.interval / plain
    print(f"one save            {save * 1e3:8.2f} ms   {share:.2%} every {args.interval} steps")


if __name__ == "__main__":
    main()
