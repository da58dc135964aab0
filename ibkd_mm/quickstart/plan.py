"""The plan of a quickstart: made at its first start and stored in its output folder."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_write, file_lock

PLAN_FILE, _LOCK_PREFIX = "quickstart.json", ".quickstart."
_CHECKPOINT_SECONDS = 40.0  # between two checkpoints: the most that a killed training loses


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
    """Steps of each student and of the teacher (0 if it is not trained), expected seconds of each stage."""

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


class Plan:
    """The plan file in the output folder: `inputs` are the options and all else that the result depends on.

    A folder that was filled with other inputs raises a UserError.
    """

    def __init__(self, out: Path, inputs: dict[str, Any]) -> None:
        self._file = out / PLAN_FILE
        self._inputs = json.loads(json.dumps(inputs))
        former, lengths = _read(self._file) or (None, None)
        images = ImageCounts(**lengths["images"]) if lengths else None
        self.lengths = RunLengths(**{**lengths, "images": images}) if lengths else None
        if former is None:
            self._write(None)
        elif names := [
            each for each in {**former, **self._inputs} if former.get(each) != self._inputs.get(each)
        ]:
            lines = [f"  {name}: then {former.get(name)}, now {self._inputs.get(name)}" for name in names]
            head, remedy = "was started with other options or data:", "Give another --out-dir, or remove"
            raise UserError("\n".join([f"{out} {head}", *lines, f"{remedy} {out}."]))

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
    if out.is_dir() and not (out / PLAN_FILE).is_file():
        others = sorted(path.name for path in out.iterdir() if not path.name.startswith(_LOCK_PREFIX))
        if others:
            found = f"{out} holds other files ({', '.join(others[:3])}), and no {PLAN_FILE}."
            raise UserError(f"{found} Give another --out-dir.")
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(out / PLAN_FILE, wait=False))
        except OSError as error:
            remedy = "Wait for its end, or give another --out-dir."
            raise UserError(f"Another quickstart is running in {out}. {remedy}") from error
        yield


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
    try:
        content = json.loads(file.read_text())
        return dict(content["inputs"]), content["lengths"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        remedy = "Give another --out-dir, or remove the file."
        raise UserError(f"{file} is not the plan of a quickstart ({error}). {remedy}") from error
