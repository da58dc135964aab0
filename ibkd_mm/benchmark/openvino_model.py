"""Files of OpenVINO, run by OpenVINO."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from ibkd_mm.benchmark.exported import Arrays, Loaded, Port
from ibkd_mm.benchmark.subject import Counts, Settings, Shape
from ibkd_mm.errors import UserError
from ibkd_mm.utils.optional_packages import require_package


def load_openvino(path: Path, settings: Settings) -> Loaded:
    """Read an `.xml` file, with the weights in the `.bin` beside it."""
    openvino = require_package("openvino", f"Running {path}")
    if settings.device != "cpu":
        raise UserError(f"{path} is run on the CPU alone. Leave --device out, or leave out this file.")
    core = openvino.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        last = str(error).strip().rpartition("\n")[2]
        raise UserError(
            f"{path} is no model that OpenVINO {openvino.__version__} can read: {last}"
        ) from error

    def ready(shapes: dict[str, Shape]) -> Callable[[Arrays], Arrays]:
        if model.is_dynamic():
            model.reshape({name: list(shape) for name, shape in shapes.items()})
        # else OpenVINO takes bfloat16 where the processor has it, which the others do not
        how = {"INFERENCE_NUM_THREADS": settings.threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(model, "CPU", how).create_infer_request()

        def run(inputs: Arrays) -> Arrays:
            found = request.infer(inputs, share_inputs=True)
            return {output.any_name: array for output, array in found.items()}

        return run

    return Loaded(
        path=path,
        runtime="OpenVINO",
        ports=[_port(given) for given in model.inputs],
        entries={name: str(getattr(each, "value", each)) for name, each in model.rt_info.items()},
        ready=ready,
        count=lambda inputs: _count(path, model),
    )


def _count(path: Path, model: Any) -> Counts:
    constants = [node.output(0) for node in model.get_ops() if node.get_type_name() == "Constant"]
    weights = sum(prod(each.shape) for each in constants if _is_weight(each))
    files = [file for file in (path, path.with_suffix(".bin")) if file.is_file()]
    return Counts(weights, sum(file.stat().st_size for file in files), None)


def _port(given: Any) -> Port:
    lengths = [side.get_length() if side.is_static else None for side in given.partial_shape]
    return Port(given.any_name, lengths, given.element_type.to_dtype())


def _is_weight(constant: Any) -> bool:
    """Tell weights from what says shapes and places."""
    return constant.element_type.is_real() or constant.element_type.bitwidth == 8
