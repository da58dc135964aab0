"""The call behind `ibkd replay`."""

from dataclasses import dataclass
from pathlib import Path

from ibkd_mm.benchmark.table import align_columns
from ibkd_mm.config.load import ConfigLike, prepare_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.engine.replay.file import read_step, versions
from ibkd_mm.engine.replay.run import ReplayedTerm, describe_batch, run_step
from ibkd_mm.errors import UserError


@dataclass(frozen=True)
class Replayed:
    """A replayed training step; its place is (seed of the training, rank of the process, iteration).

    `first_module` is the first whose output is not finite; `notes` are lines about other versions.
    """

    place: tuple[int, int, int]
    terms: list[ReplayedTerm]
    first_module: str | None
    batch: list[str]
    notes: list[str]

    def __str__(self) -> str:
        rows = [("loss term", "now", "in the training", "gradient"), *(term.row for term in self.terms)]
        table = align_columns(rows, left=4).splitlines()
        seed, rank, iteration = self.place
        module = self.first_module or "none; check the loss itself and its targets"
        lines = [*table, f"first module whose output is not finite: {module}", *self.batch, *self.notes]
        head = f"Iteration {iteration + 1} of process {rank}, seed {seed}:"
        return "\n  ".join([head, *lines])


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
    now = versions()
    other = [f"{key} {old}, now {now.get(key)}" for key, old in step.versions.items() if old != now.get(key)]
    notes = [f"other versions in the training: {'; '.join(other)}"] if other else []
    return Replayed((step.seed, step.rank, step.iteration), terms, first_module, batch, notes)
