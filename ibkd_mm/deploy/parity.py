"""Compare an exported file with the model, by the rule that its graph names."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ibkd_mm.deploy.formats import Forward
from ibkd_mm.deploy.instance_parity import check_instances
from ibkd_mm.deploy.task import Checked, ExportTask
from ibkd_mm.distill.interfaces import ExportGraph

TOLERANCES = {"fp32": 1e-4, "fp16": 5e-2}
"""Allowed difference of a tensor, as a fraction of its largest magnitude, or of 1 if that is smaller."""


@dataclass(frozen=True)
class TensorParity:
    """The largest difference of each output between a file and the model."""

    tolerance: float
    differences: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether anything was compared and all of it is within the tolerance."""
        return bool(self.differences) and max(self.differences.values()) <= self.tolerance

    def __str__(self) -> str:
        return "\n".join(
            f"  {name}  {difference:.1e} at most (allowed: {self.tolerance:g})"
            for name, difference in self.differences.items()
        )


def check_tensors(forward: Forward, task: ExportTask) -> Checked:
    """Compare all outputs on example inputs; if the batch size is dynamic, also with batches of one."""
    graph, count = task.graph, task.check_images
    alone = {"batch": 1} if "batch" in graph.dynamic_axes and "batch" not in task.lengths else {}
    lengths = task.lengths, task.lengths | alone
    inputs = (graph.example_inputs(lengths[seed % 2], seed) for seed in range(count))
    parity = compare_tensors(forward, graph, inputs, TOLERANCES[task.settings.precision])
    return Checked(parity, count, "example inputs")


def compare_tensors(
    forward: Forward, graph: ExportGraph, inputs: Iterable[tuple[Tensor, ...]], tolerance: float
) -> TensorParity:
    """Run a file and its graph on the same inputs, and compare each named output."""
    differences: dict[str, float] = {}
    for tensors in inputs:
        results = forward(*(tensor.numpy() for tensor in tensors))
        with torch.no_grad():
            expected = graph(*tensors)
        for name, tensor in zip(graph.outputs, expected, strict=True):
            found = _difference(results[name], tensor.numpy())
            differences[name] = max(found, differences.get(name, 0.0))
    return TensorParity(tolerance, differences)


def _difference(result: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, infinite for another shape or values that are not numbers."""
    if result.shape != expected.shape or not np.isfinite(result).all():
        return float("inf")
    expected = expected.astype(np.float64)
    return float(np.abs(result - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1))


PARITY_RULES: dict[str, Callable[[Forward, ExportTask], Checked]] = {
    "instances": check_instances,
    "tensors": check_tensors,
}
