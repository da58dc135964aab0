"""OpenVINO files, run by OpenVINO."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from ibkd_mm.benchmark.benchmark_model import BenchmarkSettings, Counts, Shape
from ibkd_mm.benchmark.exported import Arrays, ExportedFile, InputSpec
from ibkd_mm.errors import UserError
from ibkd_mm.utils.optional_packages import require_package


def load_openvino(path: Path, settings: BenchmarkSettings) -> ExportedFile:
    """Load an `.xml` file and the weights in the `.bin` file beside it."""
    openvino = require_package("openvino", f"Running {path}")
    if settings.device != "cpu":
        raise UserError(f"{path} runs on the CPU only. Leave --device out, or leave out this file.")
    core = openvino.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        last = str(error).strip().rpartition("\n")[2]
        raise UserError(
            f"{path} is not a model that OpenVINO {openvino.__version__} can read: {last}"
        ) from error

    def prepare(shapes: dict[str, Shape]) -> Callable[[Arrays], Arrays]:
        if model.is_dynamic():
            model.reshape({name: list(shape) for name, shape in shapes.items()})
        options = {
            "INFERENCE_NUM_THREADS": settings.threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 on processors that have it
        }
        request = core.compile_model(model, "CPU", options).create_infer_request()

        def run(inputs: Arrays) -> Arrays:
            outputs = request.infer(inputs, share_inputs=True)
            return {output.any_name: array for output, array in outputs.items()}

        return run

    return ExportedFile(
        path=path,
        runtime="OpenVINO",
        inputs=[_read_input(declared) for declared in model.inputs],
        metadata={name: str(getattr(value, "value", value)) for name, value in model.rt_info.items()},
        prepare=prepare,
        count=lambda inputs: _count(path, model),
    )


def _count(path: Path, model: Any) -> Counts:
    constants = [node.output(0) for node in model.get_ops() if node.get_type_name() == "Constant"]
    weights = sum(prod(constant.shape) for constant in constants if _is_weight(constant))
    files = [file for file in (path, path.with_suffix(".bin")) if file.is_file()]
    return Counts(weights, sum(file.stat().st_size for file in files), None)


def _read_input(declared: Any) -> InputSpec:
    shape = [length.get_length() if length.is_static else None for length in declared.partial_shape]
    return InputSpec(declared.any_name, shape, declared.element_type.to_dtype())


def _is_weight(constant: Any) -> bool:
    return constant.element_type.is_real() or constant.element_type.bitwidth == 8
