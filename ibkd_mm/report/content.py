"""Content of a report, and the sources of its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from ibkd_mm.report.groups import Group
from ibkd_mm.report.model_results import ModelResults


@dataclass(frozen=True)
class Content:
    """Everything that a report shows; the baseline, if there is one, is the first group.

    `differences` are settings, other than the teacher's, in which the groups differ.
    """

    groups: Sequence[Group]
    results: ModelResults
    differences: Sequence[str]
    command: str

    @property
    def baseline(self) -> Group | None:
        """The group that the others are compared with."""
        return None if self.groups[0].distilled else self.groups[0]

    @property
    def log_sources(self) -> str:
        """Seeds, length, hardware and folders of all groups."""
        return " ".join(map(_describe_runs, self.groups))

    @property
    def model_sources(self) -> str:
        """Checkpoints and hardware of the results of models."""
        files = "; ".join(f"{group.label}: {group.first.checkpoint}" for group in self.groups)
        return f"Last checkpoint of the first seed ({files}). Evaluated on: {self.results.hardware}."


def format_seeds(group: Group) -> str:
    """Format the seeds of a group."""
    known = [str(seed) for seed in group.seeds if seed is not None]
    return f"seed{'s' if len(known) > 1 else ''} {', '.join(known)}" if known else "seed unknown"


def _describe_runs(group: Group) -> str:
    run = group.first
    folders = ", ".join(str(run.work_dir) for run in group.runs)
    hardware = "; ".join(dict.fromkeys(run.hardware for run in group.runs))
    length = f"{run.log.reached:,} {run.unit}s with {run.batch} images per step"
    label = group.label[0].upper() + group.label[1:]
    return f"{label}: {format_seeds(group)}, {length}, on {hardware}, from {folders}."
