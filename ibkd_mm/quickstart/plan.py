"""The plan of a quickstart: made at its first start and stored in its output folder."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_write, file_lock

PLAN_FILE = "quickstart.json"
_LOCK_PREFIX = ".quickstart."
_CHECKPOINT_SECONDS = 40.0
"""Seconds between two checkpoints: the most that a killed training loses."""


@dataclass(frozen=True)
class ImageCounts:
    """Numbers of labelled and unlabelled training images and of validation images."""

    labelled: int
    unlabelled: int
    validation: int

    @property
    def training(self) -> int:
        """All training images; the teacher predicts them all."""
        return self.labelled + self.unlabelled


@dataclass(frozen=True)
class RunLengths:
    """Amount of work of a quickstart.

    Args:
        steps: training steps of each student.
        teacher_steps: training steps of the teacher, 0 if it is not trained.
        images: numbers of images.
        seconds: expected duration of each stage.
    """

    steps: int
    teacher_steps: int
    images: ImageCounts
    seconds: dict[str, float]

    def training_steps(self, stage: str) -> int:
        """Return the number of steps of a training stage."""
        return self.teacher_steps if stage == "teacher" else self.steps

    def checkpoint_interval(self, stage: str) -> int:
        """Return the number of steps between two checkpoints of a training stage."""
        return max(1, int(_CHECKPOINT_SECONDS * self.training_steps(stage) / self.seconds[stage]))

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "RunLengths":
        """Make it from `dataclasses.asdict`'s output."""
        return cls(**{**settings, "images": ImageCounts(**settings["images"])})


class Plan:
    """The plan file in the output folder. A folder that was filled with other inputs raises a UserError.

    Args:
        out: output folder.
        inputs: the user's options and everything else that the result depends on.
    """

    def __init__(self, out: Path, inputs: dict[str, Any]) -> None:
        self._file = out / PLAN_FILE
        self._inputs = json.loads(json.dumps(inputs))
        found = _read(self._file)
        self.lengths = RunLengths.from_dict(found["lengths"]) if found and found["lengths"] else None
        if found is None:
            self._write(None)
        else:
            _check_same_inputs(out, found["inputs"], self._inputs)

    def set_lengths(self, lengths: RunLengths) -> None:
        """Store the lengths, which every later start follows."""
        self._write(asdict(lengths))
        self.lengths = lengths

    def _write(self, lengths: dict[str, Any] | None) -> None:
        with atomic_write(self._file) as partial:
            partial.write_text(json.dumps({"inputs": self._inputs, "lengths": lengths}, indent=1))


@contextmanager
def lock_output_folder(out: Path) -> Iterator[None]:
    """Make the output folder and refuse other content and a second quickstart in it."""
    if out.exists() and not out.is_dir():
        raise UserError(f"Expected an output folder, found the file {out}. Give another --out-dir.")
    if not (out / PLAN_FILE).is_file():
        _check_empty(out)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(out / PLAN_FILE, wait=False))
        except OSError as error:
            raise UserError(
                f"Another quickstart is running in {out}. Wait for its end, or give another --out-dir."
            ) from error
        yield


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text())
        return {"inputs": dict(content["inputs"]), "lengths": content["lengths"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not the plan of a quickstart ({error}). Give another --out-dir, or remove the file."
        ) from error


def _check_empty(out: Path) -> None:
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    others = [name for name in names if not name.startswith(_LOCK_PREFIX)]
    if others:
        raise UserError(
            f"{out} holds other files ({', '.join(others[:3])}), and no {PLAN_FILE}. Give another --out-dir."
        )


def _check_same_inputs(out: Path, former: dict[str, Any], inputs: dict[str, Any]) -> None:
    names = [name for name in {**former, **inputs} if former.get(name) != inputs.get(name)]
    if names:
        lines = [f"  {name}: then {former.get(name)}, now {inputs.get(name)}" for name in names]
        raise UserError(
            "\n".join([f"{out} was started with other options or data:", *lines])
            + f"\nGive another --out-dir, or remove {out}."
        )
