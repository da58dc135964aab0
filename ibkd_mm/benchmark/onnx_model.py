"""ONNX files, run by ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.benchmark.benchmark_model import BenchmarkSettings, Counts
from ibkd_mm.benchmark.exported import Arrays, ExportedFile, InputSpec
from ibkd_mm.benchmark.onnx_graph import bytes_on_disk, count_graph_flops, count_parameters, read_graph
from ibkd_mm.errors import UserError
from ibkd_mm.utils.optional_packages import require_package

_DTYPES = {"float": "f4", "float16": "f2", "double": "f8", "bool": "?"}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load_onnx(path: Path, settings: BenchmarkSettings) -> ExportedFile:
    """Load any `.onnx` file."""
    onnxruntime = require_package("onnxruntime", f"Running {path}")
    require_package("onnx", f"Counting the parameters of {path}")
    session = _start_session(onnxruntime, path, settings)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, inputs), strict=True))

    def count(inputs: Arrays) -> Counts:
        model = read_graph(path)
        flops = count_graph_flops(model, inputs, path.parent)
        return Counts(count_parameters(model), bytes_on_disk(model, path), flops)

    return ExportedFile(
        path=path,
        runtime="ONNX Runtime",
        inputs=[_read_input(path, declared) for declared in session.get_inputs()],
        metadata=session.get_modelmeta().custom_metadata_map,
        prepare=lambda shapes: run,
        count=count,
    )


def _start_session(onnxruntime: Any, path: Path, settings: BenchmarkSettings) -> Any:
    provider = _PROVIDERS[settings.device]
    if provider not in onnxruntime.get_available_providers():
        raise UserError(
            f"This onnxruntime cannot use the device '{settings.device}' ({provider} is missing). Install "
            "onnxruntime-gpu instead, or leave --device out."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = settings.threads, 1
    # threads that keep spinning after a run would take the cores from the model that runs next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # the runtime's errors have no common type of their own
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{path} is not an ONNX model that onnxruntime {onnxruntime.__version__} can run: {first}"
        ) from error


def _read_input(path: Path, declared: Any) -> InputSpec:
    kind = declared.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype = np.dtype(_DTYPES.get(kind, kind))
    except TypeError as error:
        raise UserError(f"Input '{declared.name}' of {path} has the unknown type {declared.type}.") from error
    shape = [length if isinstance(length, int) else None for length in declared.shape]
    return InputSpec(declared.name, shape, dtype)
