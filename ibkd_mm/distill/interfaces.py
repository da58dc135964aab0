"""The protocols by which lower floors know models and methods of the floors above them.

A class implements a protocol by having its members; it need not import or inherit anything from here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor


class ExportGraph(Protocol):
    """What `ibkd export` writes: an `nn.Module` in evaluation mode, from input tensors to a tuple of tensors.

    A graph may take more than an image and return more than instances.
    """

    @property
    def inputs(self) -> Mapping[str, tuple[Sequence[int | str], torch.dtype]]:
        """Shape and dtype of each input, in the order of `forward`.

        An axis is its fixed length, or its name if the length is dynamic. Inputs may share named axes.
        """

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the output tensors, in the order of the tuple that `forward` returns."""

    @property
    def dynamic_axes(self) -> Mapping[str, range]:
        """The lengths that each named axis may have, such as `range(32, 1025, 32)`.

        Export fixes the axes `batch`, `rows` and `columns`, unless `--dynamic` is set; others stay dynamic.
        """

    @property
    def parity_rule(self) -> str:
        """How the file is compared with the model, a key of `ibkd_mm.deploy.parity.PARITY_RULES`.

        `instances`: outputs `boxes`, `scores`, `labels` and perhaps `masks`; instances are matched.
        `tensors`: each output must be within the tolerance.
        """

    @property
    def runtime(self) -> str | None:
        """The class of `ibkd_mm.deploy.runtime` that runs the file; None if there is none."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Values by name, to be written into the file as JSON. Export adds those that it knows itself."""

    def example_inputs(self, lengths: Mapping[str, int], seed: int = 0) -> tuple[Tensor, ...]:
        """Return typical inputs, to trace the graph and to compare the file with it.

        Args:
            lengths: lengths of named axes. The graph chooses the others: all different and none below 2,
                because tracing could not distinguish them.
            seed: selects the values.
        """

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs."""


@runtime_checkable
class Exportable(Protocol):
    """A model that `ibkd export` can write as a file."""

    @property
    def num_classes(self) -> int | None:
        """Number of classes whose names are written into the file; None for a model without classes."""

    def export_graph(self, **options: Any) -> ExportGraph:
        """Copy the model into the module that is exported; the model itself stays as it is.

        Args:
            options: a model takes those that make sense for it. `ibkd export` knows `half` (bool: compute in
                half precision) and `max_instances` (int).
        """


@runtime_checkable
class Result(Protocol):
    """What a model or an exported file predicts for one image, whatever its task."""

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Return a copy of an RGB image, (height, width, 3) uint8, with the prediction drawn on it."""

    def save(self, path: Path) -> None:
        """Write the prediction to a file, such as instances as JSON or a map as an image."""

    def to_coco(self) -> list[dict[str, Any]]:
        """Return COCO result entries without their `image_id`; an empty list if the task has none."""
