"""Parameters and FLOPs of an ONNX graph."""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.benchmark.benchmark_model import Flops, Shape
from ibkd_mm.benchmark.onnx_shapes import find_shapes

_FACTORS = {
    **dict.fromkeys(("Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3)),
}
"""Positions of the two inputs that are multiplied."""
_UNSUPPORTED = {"Attention", "DeformConv", "Einsum", "GRU", "If", "Loop", "LSTM", "RNN", "Scan"}
_INDEX_TYPES = {"BOOL", "INT64", "STRING"}  # of constants that hold shapes and indices, not weights


def read_graph(path: Path) -> Any:
    """Read a file's graph without its external weights."""
    import onnx
    from onnx.inliner import inline_local_functions

    model = onnx.load(path, load_external_data=False)
    return inline_local_functions(model) if model.functions else model


def count_parameters(model: Any) -> int:
    """Count the values of all constants, except shapes and indices."""
    from onnx import TensorProto

    names = TensorProto.DataType.Name
    return sum(
        prod(constant.dims) for constant in _constants(model) if names(constant.data_type) not in _INDEX_TYPES
    )


def bytes_on_disk(model: Any, path: Path) -> int:
    """Return the size of the file and of the files beside it that hold its weights."""
    external = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sum(file.stat().st_size for file in (path, *(path.parent / name for name in external)))


def count_graph_flops(model: Any, inputs: Mapping[str, np.ndarray], folder: Path) -> Flops | None:
    """Count the FLOPs of a run; None if the graph has nodes that multiply in unsupported ways."""
    nodes = _multiplying_nodes(model)
    if nodes is None:
        return None
    needed = {name for node, _ in nodes for name in (*_factors(node), node.output[0])}
    shapes = find_shapes(model, inputs, needed, folder)
    counts = {True: 0, False: 0}
    for node, has_weight in nodes:
        first, second = (shapes[name] for name in _factors(node))
        counts[has_weight] += 2 * _count_multiplications(node, first, second, shapes[node.output[0]])
    return Flops(counts[True], counts[False])


def _multiplying_nodes(model: Any) -> list[tuple[Any, bool]] | None:
    """Return the nodes that multiply, and whether one factor is a weight; None if a node is unsupported."""
    constants, found = {tensor.name for tensor in model.graph.initializer}, []
    for node in model.graph.node:
        if constants.issuperset(name for name in node.input if name):
            constants.update(node.output)  # computed once, from weights alone
        elif node.op_type in _UNSUPPORTED or not (
            node.domain in ("", "ai.onnx") or node.op_type in ("QuantizeLinear", "DequantizeLinear")
        ):
            return None
        elif node.op_type in _FACTORS:
            found.append((node, not constants.isdisjoint(_factors(node))))
    return found


def _factors(node: Any) -> tuple[str, str]:
    first, second = _FACTORS[node.op_type]
    return node.input[first], node.input[second]


def _count_multiplications(node: Any, first: Shape, second: Shape, out: Shape) -> int:
    if node.op_type == "ConvTranspose":  # one product per input position, a convolution's per output position
        return prod(second) * first[0] * prod(first[2:])
    if "Conv" in node.op_type:
        return prod(second) * out[0] * prod(out[2:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(out) * first[0 if transposed else -1]


def _constants(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        if node.op_type == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.name == "value")
