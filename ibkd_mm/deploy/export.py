"""Export: a student traced, written, and checked before it gets its name."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmengine.config import Config

from ibkd_mm.deploy import runtime as runtime_file
from ibkd_mm.deploy.average_precision import Precision, average_precision
from ibkd_mm.deploy.check_images import Pictures, check_pictures, pictures_of
from ibkd_mm.deploy.formats import OPENVINO, Forward, files_of, open_model, save_onnx, save_openvino
from ibkd_mm.deploy.model_info import describe
from ibkd_mm.deploy.parity import Parity, check_parity
from ibkd_mm.deploy.quantise import quantise
from ibkd_mm.deploy.runtime import ModelInfo, letterbox
from ibkd_mm.deploy.trace import trace
from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import PARTIAL, atomic_write, commit
from ibkd_mm.yolov10 import YOLOv10
from ibkd_mm.yolov10.export_graph import MOST_INSTANCES, DeployedStudent

_RUNTIME = "runtime.py"
_CHECKED = {"fp32": 16, "fp16": 16, "int8": 200}


@dataclass(frozen=True)
class Settings:
    """How a student is exported.

    Args:
        size: height and width; else those of the config's test pipeline.
        batch: pictures at a time.
        dynamic: leave batch, height and width open.
        half: the network in half precision.
        int8: quantise with so many pictures of the training data; 0 for not at all.
        max_instances: how many instances it gives of a picture; 100, or the config's if these are fewer.
        check: whether what was written is compared with the model.
        check_images: with how many pictures; 16, for int8 200.
        runtime: write `runtime.py` beside it.
    """

    size: tuple[int, int] | None = None
    batch: int = 1
    dynamic: bool = False
    half: bool = False
    int8: int = 0
    max_instances: int | None = None
    check: bool = True
    check_images: int | None = None
    runtime: bool = False

    def __post_init__(self) -> None:
        if self.half and self.int8:
            raise UserError("--half and --int8 are two precisions for one file. Choose one of them.")
        if self.dynamic and self.batch != 1:
            raise UserError("--dynamic leaves the batch open as well. Leave --batch out.")
        for name in ("batch", "max_instances", "check_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"Expected --{name.replace('_', '-')} of 1 or more, found {value}.")
        if self.int8 < 0:
            raise UserError(f"Expected --int8 of 0 or more pictures, found {self.int8}.")

    @property
    def precision(self) -> str:
        """As a file's info names it."""
        return "int8" if self.int8 else "fp16" if self.half else "fp32"


@dataclass(frozen=True)
class Checked:
    """What a check found, and on what."""

    result: Parity | Precision
    pictures: int
    where: str

    def __str__(self) -> str:
        return f"Checked on {self.pictures} {self.where}:\n{self.result}"


def write_student(
    detector: YOLOv10, classes: list[str], config: Config, out: Path, settings: Settings
) -> tuple[ModelInfo, Checked | None]:
    """Export a student, and check the file; only one that passes is left behind.

    Args:
        detector: a YOLOv10, which is left as it is.
        classes: their names.
        config: of the model and its data.
        out: the file, of OpenVINO the one of two that ends in .xml.
        settings: how.
    """
    most = detector.bbox_head.predictor.max_per_img
    count = settings.max_instances or min(MOST_INSTANCES, most)
    if count > most:
        raise UserError(
            f"--max-instances is {count}, and the config has model.test_cfg.max_per_img={most}. "
            "Choose at most that, or raise it."
        )
    info = describe(config, detector, classes, size=settings.size, dynamic=settings.dynamic)
    graph = DeployedStudent(detector, max_instances=count)
    with _draft(out) as draft:
        info = _write(graph, detector, config, info, draft, settings)
        checked = None
        if settings.check:
            checked = _check(draft, graph, config, info, settings)
            if not checked.result.passed:
                return info, checked
        for written, final in zip(files_of(draft), files_of(out), strict=True):
            commit(written, final)
    if settings.runtime:
        with atomic_write(out.with_name(_RUNTIME)) as partial:
            shutil.copyfile(runtime_file.__file__, partial)
    return info, checked


def check_output_free(out: Path, settings: Settings) -> None:
    """Refuse to overwrite anything."""
    wanted = [*files_of(out), *([out.with_name(_RUNTIME)] if settings.runtime else [])]
    taken = [str(file) for file in wanted if file.exists() and not _is_runtime(file)]
    if taken:
        raise UserError(f"There is {' and '.join(taken)} already. Give another name, or delete it first.")


def _is_runtime(file: Path) -> bool:
    return file.name == _RUNTIME and file.read_bytes() == Path(runtime_file.__file__).read_bytes()


def _write(
    graph: DeployedStudent,
    detector: YOLOv10,
    config: Config,
    info: ModelInfo,
    draft: Path,
    settings: Settings,
) -> ModelInfo:
    """Write the file and, for int8, beside it the one in float32 that it is made from."""
    written = (
        DeployedStudent(detector, max_instances=graph.max_instances, half=True) if settings.half else graph
    )
    model = trace(written, batch=settings.batch, size=info.size, dynamic=settings.dynamic)
    if settings.int8:
        save_onnx(model, info, _float32(draft))
        pictures = pictures_of(config, "train", settings.int8)
        inputs = (np.repeat(letterbox(picture, info)[0], settings.batch, axis=0) for picture in pictures)
        model = quantise(model, inputs, _part(draft, "int8.onnx"))
    info = replace(info, precision=settings.precision)
    if draft.suffix == OPENVINO:
        save_openvino(model, info, draft, _part(draft, "source.onnx"))
    else:
        save_onnx(model, info, draft)
    return info


def _check(
    draft: Path, graph: DeployedStudent, config: Config, info: ModelInfo, settings: Settings
) -> Checked:
    """Compare with the model or, int8, average precision with that of float32."""
    forward = open_model(draft)
    pictures = check_pictures(config, settings.check_images or _CHECKED[info.precision])
    if not settings.int8:
        parity = check_parity(forward, graph, info, pictures, settings.batch)
        return Checked(parity, len(pictures), pictures.where)
    if not isinstance(pictures, Pictures):
        raise UserError(
            "int8 is checked by average precision, and the config's test data are not there. Put them there, "
            "or leave the check out: --no-check"
        )
    both = [
        average_precision(_one_by_one(each, settings.batch), info, config, pictures)
        for each in (open_model(_float32(draft)), forward)
    ]
    (name, float32), (_, quantised) = both
    return Checked(Precision(name, float32, quantised), len(pictures), pictures.where)


def _part(draft: Path, name: str) -> Path:
    """Name a file that the other is made from, in a folder of their own: OUT may have any name."""
    folder = draft.parent / "parts"
    folder.mkdir(exist_ok=True)
    return folder / name


def _float32(draft: Path) -> Path:
    return _part(draft, "float32.onnx")


def _one_by_one(forward: Forward, batch: int) -> Forward:
    """Run one picture by a file that takes several."""
    return lambda images: forward(np.repeat(images, batch, axis=0))


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Yield a file of that name in a folder of its own beside `out`, which is gone afterwards."""
    folder = out.with_name(f".{out.name}{PARTIAL}")
    shutil.rmtree(folder, ignore_errors=True)  # what a killed export left
    folder.mkdir(parents=True)
    try:
        yield folder / out.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
