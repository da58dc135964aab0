"""Write exported models as ONNX or OpenVINO files with metadata, and open such files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.deploy.runtime import PREFIX
from ibkd_mm.errors import UserError

ONNX, OPENVINO = ".onnx", ".xml"

Forward = Callable[..., dict[str, np.ndarray]]
"""Takes the inputs of a file in its order, returns its outputs by name."""


def packages_for(path: Path) -> tuple[str, ...]:
    """Return the packages that are needed to write and check a file; refuse an unknown suffix."""
    if path.suffix not in (ONNX, OPENVINO):
        raise UserError(f"Expected an output ending in .onnx or .xml (OpenVINO), found {path}.")
    return "onnx", "onnxscript", "onnxruntime", *(["openvino"] if path.suffix == OPENVINO else [])


def files_of(path: Path) -> list[Path]:
    """Return all files of a model; the main one, which refers to the others, is last."""
    return [path.with_suffix(".bin"), path] if path.suffix == OPENVINO else [path]


def to_entries(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Encode metadata as a file stores them: JSON by prefixed name."""
    return {f"{PREFIX}{name}": json.dumps(value) for name, value in metadata.items()}


def save_onnx(model: Any, metadata: Mapping[str, Any], path: Path) -> None:
    """Write an `onnx.ModelProto` with metadata."""
    import onnx

    onnx.helper.set_model_props(model, to_entries(metadata))
    onnx.save(model, path)


def save_openvino(model: Any, metadata: Mapping[str, Any], path: Path, source: Path) -> None:
    """Write an `onnx.ModelProto` as OpenVINO files, by way of `source`, a temporary ONNX file."""
    import openvino

    save_onnx(model, metadata, source)
    converted = openvino.convert_model(source)
    for name, value in to_entries(metadata).items():
        converted.set_rt_info(value, [name])
    openvino.save_model(converted, path, compress_to_fp16=metadata["precision"] == "fp16")


def open_model(path: Path) -> Forward:
    """Open a file to run it on the CPU, in the precision that it has."""
    if path.suffix == OPENVINO:
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32"}  # else it uses bfloat16 on processors that have it
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        outputs = [port.get_any_name() for port in compiled.outputs]
        return lambda *arrays: dict(zip(outputs, compiled(arrays).values(), strict=True))
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [port.name for port in session.get_inputs()]
    outputs = [port.name for port in session.get_outputs()]
    return lambda *arrays: dict(
        zip(outputs, session.run(outputs, dict(zip(inputs, arrays, strict=True))), strict=True)
    )
