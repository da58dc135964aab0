"""What only the models themselves can tell: figures by class, what they see, how fast they are."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Rle = dict[str, Any]
"""A mask as COCO keeps it: `size` and compressed `counts`, a str."""


@dataclass(frozen=True)
class Instance:
    """A thing in a picture, true or found."""

    mask: Rle
    label: int
    score: float = 1.0


@dataclass(frozen=True)
class Picture:
    """A validation picture and what is truly in it."""

    path: Path
    truth: Sequence[Instance]


@dataclass(frozen=True)
class Evaluated:
    """One model on the whole validation set.

    Args:
        metrics: as its evaluator names them, between 0 and 1.
        classes: mask AP by the name of the class; empty where the evaluator does not tell.
        found: for each picture as many instances as are truly there, the most confident ones first.
    """

    metrics: dict[str, float]
    classes: dict[str, float]
    found: list[list[Instance]]

    def plain(self) -> dict[str, Any]:
        """Give it as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "Evaluated":
        """Take it from what `plain` gave."""
        found = [[Instance(**each) for each in picture] for picture in kept["found"]]
        return cls(kept["metrics"], kept["classes"], found)


@dataclass(frozen=True)
class Speed:
    """What a model holds and takes, one picture at a time."""

    name: str
    parameters: int
    network_ms: float
    pipeline_ms: float | None
    ratio: float
    """Of the network, to the first model's in the same rounds."""


@dataclass(frozen=True)
class Evaluation:
    """All models of a report.

    Args:
        models: by the labels of groups and teachers.
        teacher_of: the teacher's label by the label of the group that learned from it.
        pictures: of the validation set.
        classes: names.
        palette: an RGB colour for each.
        speeds: of the models, timed beside each other.
        hardware: that they ran on.
        lacking: why something is not here.
    """

    models: dict[str, Evaluated] = field(default_factory=dict)
    teacher_of: dict[str, str] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    classes: Sequence[str] = ()
    palette: Sequence[tuple[int, int, int]] = ()
    speeds: Sequence[Speed] = ()
    hardware: str = ""
    lacking: str = ""

    def teacher(self, label: str) -> Evaluated | None:
        """Find the teacher of a group."""
        return self.models.get(self.teacher_of.get(label, ""))

    @property
    def teachers(self) -> dict[str, Evaluated]:
        """Every teacher that was evaluated, once."""
        names = dict.fromkeys(self.teacher_of.values())
        return {name: self.models[name] for name in names if name in self.models}
