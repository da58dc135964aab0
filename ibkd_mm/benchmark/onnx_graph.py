"""What an ONNX graph holds: its parameters and its operations."""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.benchmark.flops import Flops
from ibkd_mm.benchmark.onnx_shapes import find_shapes
from ibkd_mm.benchmark.subject import Shape

_OPERANDS = {
    "Conv": (0, 1),
    "ConvInteger": (0, 1),
    "ConvTranspose": (0, 1),
    "QLinearConv": (0, 3),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
}
"""Which inputs are multiplied."""
_MULTIPLY_OTHERWISE = {"Attention", "DeformConv", "Einsum", "GRU", "If", "Loop", "LSTM", "RNN", "Scan"}
_STANDARD = ("", "ai.onnx")
_INDICES = {"BOOL", "INT64", "STRING"}
"""What constants are of that tell shapes and places."""


def read_graph(path: Path) -> Any:
    """Read a file's graph; weights that lie beside it stay there."""
    import onnx
    from onnx.inliner import inline_local_functions

    model = onnx.load(path, load_external_data=False)
    return inline_local_functions(model) if model.functions else model


def count_parameters(model: Any) -> int:
    """Count the values that the file holds, save those that tell shapes and places."""
    from onnx import TensorProto

    names = TensorProto.DataType.Name
    return sum(prod(each.dims) for each in _constants(model) if names(each.data_type) not in _INDICES)


def bytes_on_disk(model: Any, path: Path) -> int:
    """Add up the file and the files beside it that hold its weights."""
    beside = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sum(file.stat().st_size for file in (path, *(path.parent / name for name in beside)))


def count_graph_flops(model: Any, inputs: Mapping[str, np.ndarray], folder: Path) -> Flops | None:
    """Count the operations of a run; None where a kind of node multiplies in ways that are not known here.

    Args:
        model: as read.
        inputs: by name.
        folder: of the file.
    """
    multiplying = _multiplying(model)
    if multiplying is None:
        return None
    needed = {name for node, _ in multiplying for name in (*_operands(node), node.output[0])}
    shapes = find_shapes(model, inputs, needed, folder)
    weights = products = 0
    for node, by_weight in multiplying:
        first, second = _operands(node)
        count = 2 * _multiplications(node, shapes[first], shapes[second], shapes[node.output[0]])
        weights, products = (weights + count, products) if by_weight else (weights, products + count)
    return Flops(weights, products)


def _multiplying(model: Any) -> list[tuple[Any, bool]] | None:
    """Find the nodes that multiply, and whether by a weight; None where some do otherwise."""
    fixed, found = {tensor.name for tensor in model.graph.initializer}, []
    for node in model.graph.node:
        if fixed.issuperset(name for name in node.input if name):
            fixed.update(node.output)  # worked out once, from weights alone
        elif node.op_type in _MULTIPLY_OTHERWISE or not _is_known(node):
            return None
        elif node.op_type in _OPERANDS:
            found.append((node, not fixed.isdisjoint(_operands(node))))
    return found


def _operands(node: Any) -> tuple[str, str]:
    first, second = _OPERANDS[node.op_type]
    return node.input[first], node.input[second]


def _is_known(node: Any) -> bool:
    return node.domain in _STANDARD or node.op_type in ("QuantizeLinear", "DequantizeLinear")


def _multiplications(node: Any, first: Shape, second: Shape, out: Shape) -> int:
    if node.op_type == "ConvTranspose":  # spreads each input, where a convolution gathers for each output
        return prod(second) * first[0] * prod(first[2:])
    if "Conv" in node.op_type:
        return prod(second) * out[0] * prod(out[2:])
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(out) * first[0 if turned else -1]


def _constants(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        if node.op_type == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.name == "value")
