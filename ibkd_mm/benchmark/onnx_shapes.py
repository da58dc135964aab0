"""The shapes of tensors inside an ONNX graph."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.benchmark.subject import Shape

_PREFIX = "shape of "


def find_shapes(
    model: Any, inputs: Mapping[str, np.ndarray], wanted: Iterable[str], folder: Path
) -> dict[str, Shape]:
    """Find shapes: as the graph tells or, where they depend on what is computed, by running it.

    Args:
        model: an `onnx.ModelProto`.
        inputs: by name.
        wanted: names of tensors.
        folder: where weights lie that are not in the model.
    """
    given = _with_inputs(model, inputs)
    told = _told(given)
    rest = sorted(set(wanted) - told.keys())
    return {**told, **_seen(given, inputs, rest, folder)} if rest else told


def _with_inputs(model: Any, inputs: Mapping[str, np.ndarray]) -> Any:
    """Copy the model with the shapes of its inputs filled in, and those forgotten that follow from them."""
    import onnx

    given = onnx.ModelProto()
    given.CopyFrom(model)
    for value in given.graph.input:
        if value.name in inputs:
            shape = inputs[value.name].shape
            for dim, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
                dim.dim_value = length
    for value in given.graph.output:
        value.type.tensor_type.ClearField("shape")
    del given.graph.value_info[:]
    return given


def _told(given: Any) -> dict[str, Shape]:
    import onnx

    graph = onnx.shape_inference.infer_shapes(given, data_prop=True).graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            found[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return found


def _seen(given: Any, inputs: Mapping[str, np.ndarray], names: list[str], folder: Path) -> dict[str, Shape]:
    """Run a model that puts out these shapes too."""
    import onnx
    import onnxruntime

    for name in names:
        given.graph.node.append(onnx.helper.make_node("Shape", [name], [_PREFIX + name]))
        output = onnx.helper.make_tensor_value_info(_PREFIX + name, onnx.TensorProto.INT64, None)
        given.graph.output.append(output)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(
        given.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run([_PREFIX + name for name in names], dict(inputs))
    return {name: tuple(shape.tolist()) for name, shape in zip(names, found, strict=True)}
