"""Time the portable operators against torchvision's and mmcv's compiled ones, interleaved in one run.

    python benchmarks/ops.py [--device cuda] [--threads 2] [--rounds 5] [--clock cpu]

`make ops` builds the compiled operators. `--clock cpu` counts only the processor time of this process, for a
machine that runs other work at the same time.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor

from ibkd_mm.stack import ops
from ibkd_mm.stack.ops import torchvision_kernels
from ibkd_mm.stack.ops.extension import NAME, OPERATORS

BACKENDS = ("portable", "torchvision", "compiled")


class Case(NamedTuple):
    """A call of one operator, and the backends that provide it."""

    title: str
    operator: str
    arguments: tuple
    backends: tuple[str, ...] = BACKENDS


def random_boxes(width: float, height: float, count: int, largest: float) -> Tensor:
    corner = torch.rand(count, 2) * torch.tensor([width, height])
    return torch.cat([corner, corner + 4 + torch.rand(count, 2) * (largest - 4)], dim=1)


def nms_cases(device: str) -> list[Case]:
    boxes, scores = random_boxes(1333, 800, 5000, 200), torch.rand(5000)
    soft = (boxes[:1000], scores[:1000], torch.empty(1000, 5), 0.3, 0.5, 1e-3, 1, 0)
    return [
        Case("NMS, 5,000 boxes, IoU 0.7", "nms", (boxes.to(device), scores.to(device), 0.7, 0)),
        Case("soft NMS, 1,000 boxes, linear, on the CPU", "softnms", soft, ("portable", "compiled")),
    ]


def roi_align_cases(device: str) -> list[Case]:
    features, gradient = (
        torch.randn(1, 256, 200, 304, device=device),
        torch.zeros(1, 256, 200, 304, device=device),
    )
    pooled, unused = torch.randn(512, 256, 7, 7, device=device), torch.empty(0, device=device)
    any_size = (torch.rand(512, 2, 2) * torch.tensor([304.0, 200.0])).sort(dim=1).values.flatten(1)
    cases = []
    for size, boxes in (("4 to 28 px", random_boxes(276, 172, 512, 28)), ("any size", any_size)):
        rois = torch.cat([torch.zeros(512, 1), boxes], dim=1).to(device)
        forward = (features, rois, torch.empty_like(pooled), unused, unused, 7, 7, 1.0, 0, 1, True)
        backward = (pooled, rois, unused, unused, gradient, 7, 7, 1.0, 0, 1, True)
        cases.append(Case(f"RoIAlign forward, 512 boxes, {size}", "roi_align_forward", forward))
        cases.append(Case(f"RoIAlign backward, 512 boxes, {size}", "roi_align_backward", backward))
    return cases


def deform_attn_cases(device: str) -> list[Case]:
    shapes, starts = torch.tensor([[64, 64], [32, 32], [16, 16]]), torch.tensor([0, 4096, 5120])
    queries = 5376
    points, weights = torch.rand(1, queries, 8, 3, 4, 2), torch.rand(1, queries, 8, 3, 4)
    value, grad_output = torch.randn(1, queries, 8, 32), torch.randn(1, queries, 256)
    inputs = [t.to(device) for t in (value, shapes, starts, points, weights)]
    gradients = [torch.zeros_like(inputs[i]) for i in (0, 3, 4)]
    # mmcv compiles this operator for GPUs only.
    backends = ("portable",) if device == "cpu" else ("portable", "compiled")
    title = f"deformable attention {{}}, {queries:,} queries"
    backward = (*inputs, grad_output.to(device), *gradients, 64)
    return [
        Case(title.format("forward"), "ms_deform_attn_forward", (*inputs, 64), backends),
        Case(title.format("backward"), "ms_deform_attn_backward", backward, backends),
    ]


def is_installed(backend: str) -> bool:
    return {
        "portable": True,
        "torchvision": torchvision_kernels.is_importable(),
        "compiled": ops.backend() == "compiled",
    }[backend]


def run(case: Case, backend: str, clock: Callable[[], float]) -> float:
    """Return the seconds that one call takes."""
    operators = sys.modules[NAME].__dict__ if backend == "compiled" else OPERATORS
    with mock.patch.object(torchvision_kernels, "is_preferred", return_value=backend == "torchvision"):
        start = clock()
        operators[case.operator](*case.arguments)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return clock() - start


def measure(case: Case, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median seconds of each backend; the backends take turns, after one warm-up call each."""
    backends = [backend for backend in case.backends if is_installed(backend)]
    turns = [[run(case, backend, clock) for backend in backends] for _ in range(rounds + 1)]
    return dict(zip(backends, map(statistics.median, zip(*turns[1:], strict=True)), strict=True))


def format_row(case: Case, seconds: dict[str, float]) -> str:
    cells = []
    for backend in BACKENDS:
        absent = "not installed" if backend in case.backends else "none"
        cells.append(f"{seconds[backend] * 1e3:.1f}" if backend in seconds else absent)
    ratio = f"{seconds['compiled'] / seconds['portable']:.2f}" if "compiled" in seconds else ""
    return f"{case.title:44}{''.join(f'{cell:>15}' for cell in cells)}{ratio:>19}"


def hardware(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    load = f"load {os.getloadavg()[0]:.1f}, {args.clock} clock"
    print(f"{hardware(args.device)}; torch {torch.__version__}; {load}")
    print("RoIAlign: features 256x200x304, 7x7 bins, adaptive sampling. Median milliseconds of a call.")
    print(f"{'':44}{''.join(f'{name:>15}' for name in BACKENDS)}{'compiled/portable':>19}")
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    for case in nms_cases(args.device) + roi_align_cases(args.device) + deform_attn_cases(args.device):
        print(format_row(case, measure(case, args.rounds, clock)), flush=True)


if __name__ == "__main__":
    main()
