"""Results that need the models themselves: AP by class, predictions, speed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Instance:
    """A ground truth or predicted instance; its mask is COCO's RLE with compressed `counts` as a str."""

    mask: dict[str, Any]
    label: int
    score: float = 1.0


@dataclass(frozen=True)
class ValidationImage:
    """A validation image and its ground truth."""

    path: Path
    ground_truth: Sequence[Instance]


@dataclass(frozen=True)
class ModelResult:
    """Metrics by name and mask AP by class, between 0 and 1, and predictions of one model.

    Of each image it has as many predictions as there is ground truth, the most confident first.
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
    """Size of a model, its time for one image, and the ratio of its network's time to the first model's."""

    name: str
    parameters: int
    network_ms: float
    pipeline_ms: float | None
    ratio: float


@dataclass(frozen=True)
class ModelResults:
    """Results of all models of a report, by the labels of groups and teachers.

    `teacher_of` has the teacher's label of each distilled group, `palette` an RGB colour for each class, and
    `missing` the reason why results are missing, if any are.
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
