"""Export a model: trace it, write the file, and check it before it gets its name."""

import gc
import inspect
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from ibkd_mm.distill.interfaces import Exportable, ExportGraph
from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import PARTIAL, atomic_write, commit
from ibkd_mm.utils.silence import quiet

OPSET = 18
"""The version that PyTorch's translations are written in; ONNX Runtime supports it since 1.14 (2023)."""

_RUNTIME_FILE = "runtime.py"


def export_model(
    model: Exportable,
    out: Path,
    settings: ExportSettings,
    *,
    config: Config | None = None,
    classes: Sequence[str] = (),
) -> tuple[dict[str, Any], Checked | None]:
    """Write and check a file, remove it if it fails; return its metadata and the result of the check.

    `config` may be None if the graph is not about images.
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
    try:
        inspect.signature(model.export_graph).bind(**options)
    except TypeError as error:
        raise UserError(f"{type(model).__name__} cannot be exported like this: {error}.") from error
    return model.export_graph(**options)


def _write(task: ExportTask, graph: ExportGraph, draft: Path) -> None:
    model, parts = trace(graph, lengths=task.lengths), draft.with_name("parts")
    if task.settings.int8:
        save_onnx(model, task.metadata, parts / "float32.onnx")
        model = quantise(model, _calibration_inputs(task), parts / "int8.onnx")
    if draft.suffix == OPENVINO:
        save_openvino(model, task.metadata, draft, parts / "source.onnx")
    else:
        save_onnx(model, task.metadata, draft)


def trace(graph: ExportGraph, *, lengths: Mapping[str, int]) -> Any:
    """Translate a graph into an `onnx.ModelProto`, with fixed `lengths` of the axes that are named there."""
    axes = {name: _dim(name, valid) for name, valid in graph.dynamic_axes.items() if name not in lengths}
    dynamic = tuple(
        {place: axes[side] for place, side in enumerate(shape) if side in axes}
        for shape, _ in graph.inputs.values()
    )
    was_on = gc.isenabled()
    gc.disable()  # with so many objects in use, collecting takes seven eighths of the time
    try:
        with quiet(*map(logging.getLogger, ("torch.onnx", "onnxscript", "onnx_ir"))):
            program = torch.onnx.export(
                graph,  # type: ignore[arg-type]
                graph.example_inputs(lengths),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=dynamic if axes else None,
                external_data=False,
                verbose=False,
            )
    finally:
        if was_on:
            gc.enable()
    assert program is not None
    return program.model_proto


def _dim(name: str, valid: range) -> Any:
    dim = torch.export.Dim(name, min=valid[0] // valid.step, max=valid[-1] // valid.step)
    return dim if valid.step == 1 else valid.step * dim


def _calibration_inputs(task: ExportTask) -> Iterator[dict[str, np.ndarray]]:
    (name,) = task.graph.inputs
    for image in load_images(task.config, "train", task.settings.int8):
        inputs, _ = letterbox(image, task.info)
        yield {name: np.repeat(inputs, task.settings.batch, axis=0)}


def _check(task: ExportTask, draft: Path) -> Checked:
    if task.settings.int8:
        float32 = open_model(draft.with_name("parts") / "float32.onnx")
        return check_average_precision(float32, open_model(draft), task)
    return PARITY_RULES[task.graph.parity_rule](open_model(draft), task)


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Yield a file of the same name in a temporary folder, which has a folder for intermediate files."""
    folder = out.with_name(f".{out.name}{PARTIAL}")
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed export
    (folder / "parts").mkdir(parents=True)
    try:
        yield folder / out.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
