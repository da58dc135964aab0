"""What the parts of a distillation may offer to each other, in one place.

Most of it is optional: who uses a capability looks for the attribute, so that losses, connectors, teachers and
students of mmrazor, mmdet and mmseg work as they are. Lower floors, such as the engine, look for the same
attributes without importing this module.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn


class DistillLoss(Protocol):
    """A loss of `distill_losses`: a module whose `forward` takes the records that its mapping names.

    It returns a tensor, or a dictionary: entries with 'loss' in their name are trained on, others are logged.
    """

    loss_weight: float
    """Optional. A loss whose weight is 0 is not built, and the teacher does not run for it."""
    needs_class_order: ClassVar[bool]
    """Optional. True if the teacher must know the dataset's classes in the dataset's order."""


class AttachesToStudent(Protocol):
    """A loss, or the distiller's `extra_targets`, that needs a part of the student itself."""

    def attach(self, student: nn.Module) -> None:
        """Keep a reference to the part, without registering it as a submodule."""


class InfersChannels(Protocol):
    """A loss that takes the channels of its layers from the feature maps of a first run on a blank image."""

    waiting: bool
    """Whether the layers are still to be built."""

    def infer_channels(self, **records: Any) -> None:
        """Build the layers; gets those of the loss's arguments that are recorded without ground truth."""


class SeveralLosses(Protocol):
    """A module that computes several losses, each with a schedule of its own."""

    loss_names: ClassVar[tuple[str, ...]]
    """Names of the losses, keys of what `forward` returns; schedules name them."""
    factors: Mapping[str, float]
    """Set before each call: the schedule's factor of each loss. One with 0 need not be computed."""


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
    """A hook with handles on model or optimizer, or a transform that stops mixing images, such as a mosaic."""

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

    codec: Codec
    teacher: nn.Module

    def __call__(self, batch: Any) -> Sequence["Prediction"]:
        """Predict every image of a collated batch."""


class Prediction(Protocol):
    """What a `CachePredictor` returns for one image."""

    key: str
    """Name of the image, as `img_id`."""

    def entry(self) -> Any:
        """Return what the codec stores; called in a thread while the model sees the next batch."""


Losses = dict[str, Tensor]
