"""Export a model: trace it, write the file, and check it before it gets its name."""

import inspect
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from ibkd_mm.deploy import runtime as runtime_module
from ibkd_mm.deploy.average_precision import check_average_precision
from ibkd_mm.deploy.check_images import load_images
from ibkd_mm.deploy.formats import OPENVINO, files_of, open_model, save_onnx, save_openvino
from ibkd_mm.deploy.metadata import plan_export
from ibkd_mm.deploy.parity import PARITY_RULES
from ibkd_mm.deploy.quantise import quantise
from ibkd_mm.deploy.runtime import letterbox
from ibkd_mm.deploy.task import Checked, ExportSettings, ExportTask
from ibkd_mm.deploy.trace import trace
from ibkd_mm.distill.interfaces import Exportable, ExportGraph
from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import PARTIAL, atomic_write, commit

_RUNTIME_FILE = "runtime.py"


def export_model(
    model: Exportable,
    out: Path,
    settings: ExportSettings,
    *,
    config: Config | None = None,
    classes: Sequence[str] = (),
) -> tuple[dict[str, Any], Checked | None]:
    """Export a model and check the file; a file that fails the check is removed.

    Args:
        model: offers `export_graph`; it stays as it is.
        out: the file; for OpenVINO the one that ends in .xml.
        settings: of the export.
        config: of the model and its datasets; may be None if the graph is not about images.
        classes: names of the classes.

    Returns:
        the metadata of the file, and the result of the check.
    """
    options = {} if settings.max_instances is None else {"max_instances": settings.max_instances}
    graph = _export_graph(model, **options)
    task = plan_export(graph, settings, config, classes)
    if settings.int8 and graph.parity_rule != "instances":
        raise UserError("--int8 is only for models that predict instances: it is checked by their precision.")
    if settings.runtime and not hasattr(runtime_module, graph.runtime or ""):
        raise UserError("--runtime: this model has none. Run its file with ONNX Runtime or OpenVINO.")
    with _draft(out) as draft:
        _write(task, _export_graph(model, **options, half=True) if settings.half else graph, draft)
        checked = _check(task, draft) if settings.check else None
        if checked and not checked.result.passed:
            return task.metadata, checked
        for written, final in zip(files_of(draft), files_of(out), strict=True):
            commit(written, final)
    if settings.runtime:
        with atomic_write(out.with_name(_RUNTIME_FILE)) as partial:
            shutil.copyfile(runtime_module.__file__, partial)
    return task.metadata, checked


def check_output_free(out: Path, settings: ExportSettings) -> None:
    """Refuse to overwrite files, other than the same `runtime.py`."""
    runtime = out.with_name(_RUNTIME_FILE)
    current = Path(runtime_module.__file__).read_bytes()
    is_other = settings.runtime and runtime.exists() and runtime.read_bytes() != current
    taken = [str(file) for file in (*files_of(out), *([runtime] if is_other else [])) if file.exists()]
    if taken:
        raise UserError(f"{' and '.join(taken)} already exists. Choose another name, or delete it first.")


def _export_graph(model: Exportable, **options: Any) -> ExportGraph:
    """Build the graph; refuse options that the model does not take."""
    try:
        inspect.signature(model.export_graph).bind(**options)
    except TypeError as error:
        raise UserError(f"{type(model).__name__} cannot be exported like this: {error}.") from error
    return model.export_graph(**options)


def _write(task: ExportTask, graph: ExportGraph, draft: Path) -> None:
    """Write the file and, for int8, also the one in float32 that it is quantised from."""
    model = trace(graph, lengths=task.lengths)
    if task.settings.int8:
        save_onnx(model, task.metadata, _part(draft, "float32.onnx"))
        model = quantise(model, _calibration_inputs(task), _part(draft, "int8.onnx"))
    if draft.suffix == OPENVINO:
        save_openvino(model, task.metadata, draft, _part(draft, "source.onnx"))
    else:
        save_onnx(model, task.metadata, draft)


def _calibration_inputs(task: ExportTask) -> Iterator[dict[str, np.ndarray]]:
    (name,) = task.graph.inputs
    for image in load_images(task.config, "train", task.settings.int8):
        inputs, _ = letterbox(image, task.info)
        yield {name: np.repeat(inputs, task.settings.batch, axis=0)}


def _check(task: ExportTask, draft: Path) -> Checked:
    """Compare the file with the model or, for int8, its average precision with that of float32."""
    if task.settings.int8:
        return check_average_precision(open_model(_part(draft, "float32.onnx")), open_model(draft), task)
    return PARITY_RULES[task.graph.parity_rule](open_model(draft), task)


def _part(draft: Path, name: str) -> Path:
    """Name an intermediate file, in a folder of its own because the output may have any name."""
    folder = draft.parent / "parts"
    folder.mkdir(exist_ok=True)
    return folder / name


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Yield a file of the same name in a temporary folder beside `out`, which is removed afterwards."""
    folder = out.with_name(f".{out.name}{PARTIAL}")
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed export
    folder.mkdir(parents=True)
    try:
        yield folder / out.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
