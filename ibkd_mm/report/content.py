"""What a report is made of, and where its figures come from."""

from collections.abc import Sequence
from dataclasses import dataclass

from ibkd_mm.report.evaluated import Evaluation
from ibkd_mm.report.groups import Group


@dataclass(frozen=True)
class Content:
    """What a report is made of.

    Args:
        groups: the baseline first, where there is one.
        evaluation: of their models.
        unequal: what differs between the groups besides the teacher.
        command: that makes the report.
    """

    groups: Sequence[Group]
    evaluation: Evaluation
    unequal: Sequence[str]
    command: str

    @property
    def baseline(self) -> Group | None:
        """What the others are compared with."""
        return None if self.groups[0].distilled else self.groups[0]

    @property
    def said(self) -> str:
        """Where figures come from, in a sentence or two for each group."""
        return " ".join(map(origin, self.groups))

    @property
    def said_of_models(self) -> str:
        """The same for what was measured on checkpoints."""
        files = "; ".join(f"{group.label}: {group.first.checkpoint}" for group in self.groups)
        return f"Of the first seed's last checkpoint ({files}). Evaluated on: {self.evaluation.hardware}."


def seeds(group: Group) -> str:
    """Name the seeds of a group."""
    known = [str(seed) for seed in group.seeds if seed is not None]
    return f"seed{'s' if len(known) > 1 else ''} {', '.join(known)}" if known else "seed unknown"


def origin(group: Group) -> str:
    """Tell where the figures of a group come from."""
    first = group.first
    folders = ", ".join(str(run.work_dir) for run in group.runs)
    hardware = "; ".join(dict.fromkeys(run.hardware for run in group.runs))
    length = f"{first.log.reached:,} {first.unit}s with {first.batch} pictures a step"
    return (
        f"{group.label[0].upper()}{group.label[1:]}: {seeds(group)}, {length}, on {hardware}, from {folders}."
    )
