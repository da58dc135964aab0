"""Files of exported models: written with what they say of themselves, and opened to be run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.deploy.runtime import ModelInfo
from ibkd_mm.errors import UserError
from ibkd_mm.yolov10.export_graph import INPUT

ONNX, OPENVINO = ".onnx", ".xml"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Forward = Callable[[np.ndarray], dict[str, np.ndarray]]


def packages_for(path: Path) -> tuple[str, ...]:
    """Name the packages that writing and checking a file takes; refuse an ending that is of no format."""
    if path.suffix not in (ONNX, OPENVINO):
        raise UserError(f"Expected an output ending in .onnx or .xml (OpenVINO), found {path}.")
    return (*_PACKAGES, "openvino") if path.suffix == OPENVINO else _PACKAGES


def files_of(path: Path) -> list[Path]:
    """Name all files of a model, that which names the others last."""
    return [path.with_suffix(".bin"), path] if path.suffix == OPENVINO else [path]


def save_onnx(model: Any, info: ModelInfo, path: Path) -> None:
    """Write an `onnx.ModelProto`, with the info in its metadata."""
    import onnx

    onnx.helper.set_model_props(model, info.entries())
    onnx.save(model, path)


def save_openvino(model: Any, info: ModelInfo, path: Path, source: Path) -> None:
    """Write an `onnx.ModelProto` as OpenVINO's representation, with the info in `rt_info`.

    Args:
        model: to be written.
        info: of it.
        path: ending in .xml.
        source: ONNX file that it may write.
    """
    import openvino

    save_onnx(model, info, source)
    converted = openvino.convert_model(source)
    for name, value in info.entries().items():
        converted.set_rt_info(value, [name])
    openvino.save_model(converted, path, compress_to_fp16=info.precision == "fp16")


def open_model(path: Path) -> Forward:
    """Open a file to be run on the CPU, in the precision that it has."""
    if path.suffix == OPENVINO:
        return _open_openvino(path)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {INPUT: images}), strict=True))


def _open_openvino(path: Path) -> Forward:
    import openvino

    # where the processor has bfloat16, OpenVINO would take it by itself
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    names: Sequence[str] = [output.get_any_name() for output in compiled.outputs]

    def forward(images: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled({INPUT: images})
        return {name: found[name] for name in names}

    return forward
