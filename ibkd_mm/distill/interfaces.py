"""What the parts of a distillation may offer to each other, in one place.

Most capabilities are optional: code that uses one first checks for its attribute. So losses, connectors,
teachers and students of mmrazor, mmdet and mmseg work as they are. Lower floors, such as the engine, check
for the same attributes without importing this module.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn


class DistillLoss(Protocol):
    """A loss of `distill_losses`: a module whose `forward` takes the records that its mapping names.

    It returns a tensor, or a dictionary: entries with 'loss' in their name are trained on, others are logged.
    """

    loss_weight: float  # optional; with 0 the loss is not built, and the teacher does not run for it
    needs_class_order: ClassVar[bool]  # optional; whether teacher and dataset need the same order of classes


class AttachesToStudent(Protocol):
    """A loss, or the distiller's `extra_targets`, that needs a part of the student itself."""

    def attach(self, student: nn.Module) -> None:
        """Keep a reference to the part, without registering it as a submodule."""


class InfersChannels(Protocol):
    """A loss that takes the channels of its layers from the feature maps of a first run on a blank image."""

    waiting: bool  # whether the layers are still to be built

    def infer_channels(self, **records: Any) -> None:
        """Build the layers, from those arguments of `forward` that are recorded without ground truth."""


class SeveralLosses(Protocol):
    """A module that computes several losses, each with a schedule of its own."""

    loss_names: ClassVar[tuple[str, ...]]  # keys of what `forward` returns; schedules name them
    factors: Mapping[str, float]  # the schedules', set before each call; a loss with 0 need not be computed


class ExtendsTargets(Protocol):
    """The distiller's `extra_targets`: adds predictions of the teacher to the ground truth of a batch."""

    def __call__(self, samples: Sequence[Any], teacher: Any, size: tuple[int, int]) -> list[Any]:
        """Return extended copies of the samples; `size` is the height and width of the input."""


class Distillation(Protocol):
    """A model that trains a student with a teacher. Report, test and export find the student by it."""

    @staticmethod
    def student_config(model: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the student's settings from the model's."""


class TrainingOnlyState(Protocol):
    """A model that trains more than its `state_dict` holds, such as bridges to a teacher."""

    def training_only_state(self) -> dict[str, Any]:
        """Return what a checkpoint stores beside the weights, for resuming."""

    def load_training_only_state(self, state: Mapping[str, Any], *, with_factors: bool = False) -> None:
        """Restore it; with the factors of the schedules only where no schedule sets them."""


class CarriesTeacher(Protocol):
    """A transform that only carries a teacher's predictions: no difference in a comparison of trainings."""

    carries_teacher: ClassVar[bool]


class RemovesLabels(Protocol):
    """A transform after which an image has no ground truth of its own."""

    removes_labels: ClassVar[bool]


class Closable(Protocol):
    """A hook with handles on model or optimizer, or a transform that mixes images, such as a mosaic."""

    def close(self) -> None:
        """Release the handles; for a transform: leave images as they are from now on."""


class Codec(Protocol):
    """How `ibkd cache` stores what a model said of one image."""

    version: int

    def encode(self, entry: Any) -> bytes:
        """Pack an entry."""

    def decode(self, data: bytes) -> Any:
        """Unpack an entry; damaged data raises ValueError, zlib.error or struct.error."""

    def count(self, entry: Any) -> int:
        """Return how many predictions an entry has, for `ibkd cache --info`."""

    def is_same(self, cached: Any, predicted: Any) -> bool:
        """Compare an entry with a new prediction of the same image, for `ibkd cache --verify`."""


class CachePredictor(Protocol):
    """What `ibkd cache` runs over images; registered in TASK_UTILS, named by `teacher_cache.predictor`."""

    teacher: Any  # the `FrozenTeacher` that it runs

    def __call__(self, batch: Any) -> Sequence["Prediction"]:
        """Predict every image of a collated batch."""


class Prediction(Protocol):
    """What a `CachePredictor` returns for one image."""

    key: str  # name of the image, as `img_id`

    def entry(self) -> Any:
        """Return what the codec stores; called in a thread while the model sees the next batch."""


class ExportGraph(Protocol):
    """What `ibkd export` writes: an `nn.Module` in evaluation mode, from tensors to a tuple of tensors."""

    @property
    def inputs(self) -> Mapping[str, tuple[Sequence[int | str], torch.dtype]]:
        """Shape and dtype of each input of `forward`, in order; an axis is a length, or a name if dynamic."""

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
        """How the file is compared with the model, a key of `ibkd_mm.deploy.parity.PARITY_RULES`."""

    @property
    def runtime(self) -> str | None:
        """The class of `ibkd_mm.deploy.runtime` that runs the file; None if there is none."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Values by name, to be written into the file as JSON. Export adds those that it knows itself."""

    def example_inputs(self, lengths: Mapping[str, int], seed: int = 0) -> tuple[Tensor, ...]:
        """Return typical inputs, to trace the graph and to compare the file with it.

        The graph chooses lengths that are not given: all different and none below 2, to tell them apart.
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
        """Copy the model into what is exported; `ibkd export` has the options `half` and `max_instances`."""


@runtime_checkable
class Result(Protocol):
    """What a model or an exported file predicts for one image, whatever its task."""

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Return a copy of an RGB image, (height, width, 3) uint8, with the prediction drawn on it."""

    def save(self, path: Path) -> None:
        """Write the prediction to a file, such as instances as JSON or a map as an image."""

    def to_coco(self) -> list[dict[str, Any]]:
        """Return COCO result entries without their `image_id`; an empty list if the task has none."""
