"""Shapes of the tensors inside an ONNX graph."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.benchmark.benchmark_model import Shape

_PREFIX = "shape of "


def find_shapes(
    model: Any, inputs: Mapping[str, np.ndarray], names: Iterable[str], folder: Path
) -> dict[str, Shape]:
    """Infer tensors' shapes from an `onnx.ModelProto` or, if they depend on computed values, by running it.

    External weights are read from `folder`.
    """
    fixed = _fix_input_shapes(model, inputs)
    inferred = _infer_shapes(fixed)
    rest = sorted(set(names) - inferred.keys())
    return {**inferred, **_compute_shapes(fixed, inputs, rest, folder)} if rest else inferred


def _fix_input_shapes(model: Any, inputs: Mapping[str, np.ndarray]) -> Any:
    """Copy the model with the shapes of the inputs filled in, and without the shapes that depend on them."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if value.name in inputs:
            shape = inputs[value.name].shape
            for dim, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
                dim.dim_value = length
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    del fixed.graph.value_info[:]
    return fixed


def _infer_shapes(model: Any) -> dict[str, Shape]:
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            found[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return found


def _compute_shapes(
    model: Any, inputs: Mapping[str, np.ndarray], names: list[str], folder: Path
) -> dict[str, Shape]:
    """Run the model with the shapes as additional outputs."""
    import onnx
    import onnxruntime

    for name in names:
        model.graph.node.append(onnx.helper.make_node("Shape", [name], [_PREFIX + name]))
        output = onnx.helper.make_tensor_value_info(_PREFIX + name, onnx.TensorProto.INT64, None)
        model.graph.output.append(output)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    shapes = session.run([_PREFIX + name for name in names], dict(inputs))
    return {name: tuple(shape.tolist()) for name, shape in zip(names, shapes, strict=True)}
