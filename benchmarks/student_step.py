"""Show where the time of a training step of the student is spent: by part, and by operator.

    python benchmarks/student_step.py [--config CONFIG] [--size 640] [--batch 8] [--steps 5] [--threads 2]

YOLOv10n-seg on noise images with seven instances each, which are in memory, in full precision on the CPU. By
part: the outputs of the network are detached, so that its backward pass is timed separately from that of the
losses. By operator: torch's profiler separates convolutions, forward and backward, from the others.
"""

import argparse
import logging
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from torch.profiler import ProfilerActivity, profile

from ibkd_mm.apis import load_config
from ibkd_mm.benchmark.machine import hardware, threads
from ibkd_mm.engine.hooks.student_ema import StudentEMAHook
from ibkd_mm.engine.optim import FEW_GROUPS
from ibkd_mm.yolov10 import head as head_module

INSTANCES = 7
NETWORK, BACKWARD = "network", "network, backward"
KINDS = {"convolutions": "conv", "norms": "batch_norm", "activations": "silu"}


def make_batch(size: int, images: int, classes: int) -> dict[str, list[Any]]:
    """Create noise images with ellipses as instances."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    samples = []
    for _ in range(images):
        radius = np.exp(rng.uniform(np.log(size / 32), np.log(size / 4), (INSTANCES, 2)))
        centre = rng.uniform(radius, size - radius)
        masks = [
            ((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 <= 1
            for (x, y), (across, down) in zip(centre, radius, strict=True)
        ]
        boxes = np.concatenate([centre - radius, centre + radius], axis=1)
        instances = InstanceData(
            bboxes=torch.from_numpy(boxes).float(),
            labels=torch.from_numpy(rng.integers(0, classes, INSTANCES)),
            masks=BitmapMasks(np.stack(masks).astype(np.uint8), size, size),
        )
        meta = {"img_shape": (size, size), "ori_shape": (size, size), "batch_input_shape": (size, size)}
        samples.append(DetDataSample(gt_instances=instances, metainfo=meta))
    noise = torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8)
    return {"inputs": list(noise), "data_samples": samples}


class PartTimer:
    """Sums up the seconds of each part of a step; an inner part does not count for the outer one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.open: list[str] = []
        self.since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._turn()
        self.open.append(name)
        yield
        self._turn()
        self.open.pop()

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call

    def _turn(self) -> None:
        now = time.perf_counter()
        if self.open:
            self.seconds[self.open[-1]] += now - self.since
        self.since = now


class Step:
    """A training step as the runner takes it."""

    def __init__(self, path: str, timer: PartTimer) -> None:
        config = load_config(path)
        init_default_scope("mmdet")
        self.timer = timer
        self.outputs: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.model = MODELS.build(config.model).train()
        self.optim = build_optim_wrapper(self.model, {**FEW_GROUPS, **config.optim_wrapper})
        self.averaging = StudentEMAHook()
        self.runner: Any = SimpleNamespace(model=self.model, optim_wrapper=self.optim, iter=0)
        self.averaging.before_train(self.runner)
        self._time_parts()

    def _time_parts(self) -> None:
        """Time the parts that the model calls."""
        head, wrapped = self.model.bbox_head, self.timer.wrapped
        self.model.extract_feat = wrapped(NETWORK, self.model.extract_feat)
        for module in (head.one_to_many, head.one_to_one, head.prototypes):
            module.forward = self._detach(wrapped(NETWORK, module.forward))
        for criterion in head.criteria.values():
            criterion.assigner.forward = wrapped("assignment", criterion.assigner.forward)
        head_module.pairs_inside = wrapped("assignment", head_module.pairs_inside)
        head_module.collect_truth = wrapped("collecting the ground truth", head_module.collect_truth)

    def _detach(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Make the outputs of a module the leaves of a new graph."""

        def detach(output: torch.Tensor | None) -> torch.Tensor | None:
            if output is None:
                return None
            self.outputs.append((output, output.detach().requires_grad_()))
            return self.outputs[-1][1]

        def call(*args: Any) -> Any:
            outputs = forward(*args)
            return (
                detach(outputs) if isinstance(outputs, torch.Tensor) else type(outputs)(*map(detach, outputs))
            )

        return call

    def __call__(self, batch: dict[str, Any]) -> None:
        part, self.outputs = self.timer.part, []
        with part("losses"):
            terms = self.model(batch["inputs"], batch["data_samples"], mode="loss")
            loss, _ = self.model.parse_losses(terms)
        with part("losses, backward"):
            self.optim.backward(loss)
        with part(BACKWARD):
            torch.autograd.backward(
                *zip(*((output, leaf.grad) for output, leaf in self.outputs), strict=True)
            )
        with part("optimizer, clipping"):
            self.optim.step()
            self.optim.zero_grad()
        with part("weight averaging"):
            self.averaging.after_train_iter(self.runner)


def print_shares(title: str, seconds: dict[str, float]) -> None:
    total = sum(seconds.values())
    print(f"\n{title:40}{'ms a step':>12}{'share':>9}")
    for name, part in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{name:40}{part * 1e3:12.1f}{part / total:9.1%}")
    print(f"{'total':40}{total * 1e3:12.1f}")


def measure_parts(step: Step, batch: dict[str, Any], steps: int) -> dict[str, float]:
    """Return the median seconds of each part."""
    found = []
    for _ in range(steps):
        step.timer.seconds.clear()
        step(batch)
        found.append(dict(step.timer.seconds))
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def measure_operators(step: Step, batch: dict[str, Any], shown: int) -> dict[str, float]:
    """Return the seconds of each kind of operator in one step, and of the other operators that take most."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step(batch)
    seconds: Counter[str] = Counter()
    for event in profiled.key_averages():
        kind = next((kind for kind, part in KINDS.items() if part in event.key), event.key)
        seconds[kind] += event.self_cpu_time_total / 1e6
    rest = [name for name, _ in seconds.most_common() if name not in KINDS][shown:]
    kept = {name: part for name, part in seconds.items() if name not in rest}
    return {**kept, "other operators": sum(seconds[name] for name in rest)}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/yolov10/yolov10n-seg_coco.py")
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.manual_seed(0)
    logging.disable(logging.WARNING)
    with threads(args.threads):
        step = Step(args.config, PartTimer())
        samples = make_batch(args.size, args.batch, step.model.bbox_head.num_classes)
        batch = step.model.data_preprocessor(samples, training=True)
        for _ in range(2):
            step(batch)
        parts = measure_parts(step, batch, args.steps)
        operators = measure_operators(step, batch, shown=12)
    print(f"{hardware('cpu')}, {args.threads} threads, torch {torch.__version__}, {args.config}")
    print(f"{args.batch} images of {args.size}x{args.size}, {INSTANCES} instances each, {args.steps} steps")
    print_shares("part", parts)
    print(f"outside the network's forward and backward: {share_outside(parts, (NETWORK, BACKWARD)):.1%}")
    print_shares("operator, in one profiled step", operators)
    print(f"outside convolutions: {share_outside(operators, ('convolutions',)):.1%}")
    print(f"... and outside norms and activations: {share_outside(operators, tuple(KINDS)):.1%}")


def share_outside(seconds: dict[str, float], inside: tuple[str, ...]) -> float:
    return 1 - sum(seconds[name] for name in inside) / sum(seconds.values())


if __name__ == "__main__":
    main()
