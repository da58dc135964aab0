"""Files of ONNX, run by ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.benchmark.exported import Arrays, Loaded, Port
from ibkd_mm.benchmark.onnx_graph import (
    bytes_on_disk,
    count_graph_flops,
    count_parameters,
    read_graph,
)
from ibkd_mm.benchmark.subject import Counts, Settings, Shape
from ibkd_mm.errors import UserError
from ibkd_mm.utils.optional_packages import require_package

_KINDS = {"float": "f4", "float16": "f2", "double": "f8", "bool": "?"}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load_onnx(path: Path, settings: Settings) -> Loaded:
    """Read any `.onnx` file."""
    onnxruntime = require_package("onnxruntime", f"Running {path}")
    require_package("onnx", f"Counting what is in {path}")
    session = _session(onnxruntime, path, settings)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, inputs), strict=True))

    def ready(shapes: dict[str, Shape]) -> Callable[[Arrays], Arrays]:
        return run

    return Loaded(
        path=path,
        runtime="ONNX Runtime",
        ports=[_port(path, given) for given in session.get_inputs()],
        entries=session.get_modelmeta().custom_metadata_map,
        ready=ready,
        count=lambda inputs: _count(path, inputs),
    )


def _count(path: Path, inputs: Arrays) -> Counts:
    model = read_graph(path)
    return Counts(
        count_parameters(model), bytes_on_disk(model, path), count_graph_flops(model, inputs, path.parent)
    )


def _session(onnxruntime: Any, path: Path, settings: Settings) -> Any:
    provider = _PROVIDERS[settings.device]
    if provider not in onnxruntime.get_available_providers():
        raise UserError(
            f"This onnxruntime cannot use the device '{settings.device}' (it has no {provider}). Install "
            "onnxruntime-gpu in its place, or leave --device out."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = settings.threads, 1
    # threads that go on spinning after a run would take the cores from the model that runs next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # the runtime's errors have no common type of their own
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{path} is no ONNX model that onnxruntime {onnxruntime.__version__} can run: {first}"
        ) from error


def _port(path: Path, given: Any) -> Port:
    kind = given.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype = np.dtype(_KINDS.get(kind, kind))
    except TypeError as error:
        raise UserError(
            f"{path} takes an input '{given.name}' of the kind {given.type}, which is not known."
        ) from error
    return Port(given.name, [side if isinstance(side, int) else None for side in given.shape], dtype)
