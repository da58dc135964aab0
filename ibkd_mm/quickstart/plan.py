"""What a quickstart is to do, fixed at its first start and kept in the folder that it fills."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_write, file_lock

FILE = "quickstart.json"
_OWN = ".quickstart."
_SAVED_EVERY = 40.0
"""Seconds between checkpoints, and about what is lost at most to whoever is killed."""


@dataclass(frozen=True)
class Amounts:
    """Numbers of pictures: to learn from with labels and without, and to judge by."""

    labelled: int
    unlabelled: int
    held: int

    @property
    def training(self) -> int:
        """All that the teacher looks at."""
        return self.labelled + self.unlabelled


@dataclass(frozen=True)
class Lengths:
    """How long everything is.

    Args:
        steps: of either student.
        teacher_steps: of the teacher, 0 where it is not trained.
        amounts: of pictures.
        seconds: what each stage is expected to take.
    """

    steps: int
    teacher_steps: int
    amounts: Amounts
    seconds: dict[str, float]

    def steps_of(self, training: str) -> int:
        """Give the steps of a training by its name."""
        return self.teacher_steps if training == "teacher" else self.steps

    def checkpoint_every(self, training: str) -> int:
        """Give the steps after which a training is saved."""
        return max(1, int(_SAVED_EVERY * self.steps_of(training) / self.seconds[training]))

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> "Lengths":
        """Take it from what JSON keeps."""
        return cls(**{**kept, "amounts": Amounts(**kept["amounts"])})


class Plan:
    """The file in the folder.

    Args:
        out: the folder.
        asked: what the user asked for, and all that the result depends on besides.
    """

    def __init__(self, out: Path, asked: dict[str, Any]) -> None:
        self._file = out / FILE
        self._asked = json.loads(json.dumps(asked))
        kept = _read(self._file)
        if kept is None:
            self._write(None)
        else:
            _check_same(out, kept["asked"], self._asked)
        lengths = kept and kept["lengths"]
        self.lengths = Lengths.from_dict(lengths) if lengths else None

    def fix(self, lengths: Lengths) -> None:
        """Keep the lengths: whoever goes on keeps to them."""
        self._write(asdict(lengths))
        self.lengths = lengths

    def _write(self, lengths: dict[str, Any] | None) -> None:
        with atomic_write(self._file) as partial:
            partial.write_text(json.dumps({"asked": self._asked, "lengths": lengths}, indent=1))


@contextmanager
def only_here(out: Path) -> Iterator[None]:
    """Refuse a second quickstart that fills the same folder at the same time."""
    if out.exists() and not out.is_dir():
        raise UserError(f"Expected a folder to fill, found the file {out}. Give another --out-dir.")
    if not (out / FILE).is_file():
        _check_output_free(out)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(file_lock(out / FILE, wait=False))
        except OSError as error:
            raise UserError(
                f"Another quickstart is filling {out} now. Wait for its end, or give another --out-dir."
            ) from error
        yield


def _read(file: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(file.read_text())
        return {"asked": dict(kept["asked"]), "lengths": kept["lengths"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is no plan of a quickstart ({error}). Give another --out-dir, or remove it."
        ) from error


def _check_output_free(out: Path) -> None:
    names = [each.name for each in out.iterdir()] if out.is_dir() else []
    others = [name for name in names if not name.startswith(_OWN)]
    if others:
        raise UserError(
            f"{out} holds other things ({', '.join(sorted(others)[:3])}), and no {FILE}. "
            "Give another --out-dir."
        )


def _check_same(out: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    names = [name for name in {**found, **asked} if found.get(name) != asked.get(name)]
    if names:
        lines = [f"  {name}: {found.get(name)} there, {asked.get(name)} now" for name in names]
        raise UserError(
            "\n".join([f"{out} was begun with another plan:", *lines])
            + f"\nGive another --out-dir, or remove {out}."
        )
