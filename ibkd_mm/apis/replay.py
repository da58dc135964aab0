"""The call behind `ibkd replay`."""

from dataclasses import dataclass
from pathlib import Path

from ibkd_mm.config.load import ConfigLike, prepare_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.engine.replay.file import Step, read_step, versions
from ibkd_mm.engine.replay.run import ReplayedTerm, describe_batch, run_step
from ibkd_mm.errors import UserError


@dataclass(frozen=True)
class Replayed:
    """A replayed training step.

    Args:
        place: seed of the training, rank of the process, iteration.
        terms: the loss terms.
        first_module: the first module whose output is not finite.
        batch: lines that describe the batch.
        notes: lines about differences from the training.
    """

    place: tuple[int, int, int]
    terms: list[ReplayedTerm]
    first_module: str | None
    batch: list[str]
    notes: list[str]

    def __str__(self) -> str:
        rows = [("loss term", "now", "in the training", "gradient"), *(term.row for term in self.terms)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
            for row in rows
        ]
        seed, rank, iteration = self.place
        module = self.first_module or "none; check the loss itself and its targets"
        lines = [*table, f"first module whose output is not finite: {module}", *self.batch, *self.notes]
        head = f"Iteration {iteration + 1} of process {rank}, seed {seed}:"
        return "\n".join([head, *(f"  {line.rstrip()}" for line in lines)])


def replay(file: str, *, config: ConfigLike | None = None) -> Replayed:
    """Run a training step again, in one process: the same weights, batch, random numbers and precision.

    Args:
        file: a `.replay` file that a training wrote when it stopped.
        config: the training's config; else the one that the training wrote beside the file.
    """
    path = Path(file)
    step = read_step(path)
    if config is None and not (path.parent / step.config).is_file():
        raise UserError(f"There is no {step.config} beside {path}. Name the training's config with --config.")
    ready = prepare_config(config or path.parent / step.config, None)
    batch = describe_batch(step.batch)  # before the model changes it
    with user_errors(ready):
        terms, first_module = run_step(ready, step)
    return Replayed((step.seed, step.rank, step.iteration), terms, first_module, batch, _version_notes(step))


def _version_notes(step: Step) -> list[str]:
    current = versions()
    changed = [
        f"{name} {version}, now {current.get(name)}"
        for name, version in step.versions.items()
        if version != current.get(name)
    ]
    return [f"other versions in the training: {'; '.join(changed)}"] if changed else []
