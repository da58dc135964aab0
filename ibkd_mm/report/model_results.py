"""Results that need the models themselves: AP by class, predictions, speed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Rle = dict[str, Any]
"""A mask in COCO's format: `size` and compressed `counts` as a str."""


@dataclass(frozen=True)
class Instance:
    """A ground truth or predicted instance."""

    mask: Rle
    label: int
    score: float = 1.0


@dataclass(frozen=True)
class ValidationImage:
    """A validation image and its ground truth."""

    path: Path
    ground_truth: Sequence[Instance]


@dataclass(frozen=True)
class ModelResult:
    """Metrics and predictions of one model on the whole validation set.

    Args:
        metrics: metrics by the evaluator's names, between 0 and 1.
        class_ap: mask AP by class name; empty if the evaluator does not report it.
        predictions: for each image as many instances as its ground truth has, the most confident first.
    """

    metrics: dict[str, float]
    class_ap: dict[str, float]
    predictions: list[list[Instance]]

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON can store."""
        found = [[asdict(instance) for instance in image] for image in self.predictions]
        return {"metrics": self.metrics, "classes": self.class_ap, "found": found}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelResult":
        """Restore a result from the values of `to_dict`."""
        predictions = [[Instance(**instance) for instance in image] for image in values["found"]]
        return cls(values["metrics"], values["classes"], predictions)


@dataclass(frozen=True)
class Speed:
    """Size of a model, and its time for one image."""

    name: str
    parameters: int
    network_ms: float
    pipeline_ms: float | None
    ratio: float
    """Time of the network relative to the first model's."""


@dataclass(frozen=True)
class ModelResults:
    """Results of all models of a report.

    Args:
        models: results by the labels of groups and teachers.
        teacher_of: label of the teacher by the label of the distilled group.
        images: the validation images.
        classes: class names.
        palette: one RGB colour per class.
        speeds: speeds of the models, measured in the same rounds.
        hardware: the hardware they ran on.
        missing: reason why results are missing, if any are.
    """

    models: dict[str, ModelResult] = field(default_factory=dict)
    teacher_of: dict[str, str] = field(default_factory=dict)
    images: Sequence[ValidationImage] = ()
    classes: Sequence[str] = ()
    palette: Sequence[tuple[int, int, int]] = ()
    speeds: Sequence[Speed] = ()
    hardware: str = ""
    missing: str = ""

    def teacher(self, label: str) -> ModelResult | None:
        """Return the result of a group's teacher."""
        return self.models.get(self.teacher_of.get(label, ""))

    @property
    def teachers(self) -> dict[str, ModelResult]:
        """Results of the evaluated teachers, by label."""
        names = dict.fromkeys(self.teacher_of.values())
        return {name: self.models[name] for name in names if name in self.models}
