"""Quantise a network to eight bits; its post-processing keeps float32."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.utils.silence import quiet

QUANTISED = ("Conv", "ConvTranspose", "MaxPool", "Concat", "Add", "Mul", "Sigmoid", "Resize", "Split")


def quantise(model: Any, inputs: Iterable[Mapping[str, np.ndarray]], path: Path) -> Any:
    """Quantise an `onnx.ModelProto` by the ranges on calibration `inputs`; `path` is a temporary file."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    rest = iter(inputs)

    class Reader(CalibrationDataReader):
        def get_next(self) -> Mapping[str, np.ndarray] | None:
            return next(rest, None)

    model = onnx.shape_inference.infer_shapes(model)
    with quiet(logging.getLogger()):  # it logs advice to the root logger
        quantize_static(
            model,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=unquantised_nodes(model),
        )
    return onnx.load(path)


def unquantised_nodes(model: Any) -> list[str]:
    """Return the names of nodes that are before no convolution: the last ones, which predict, and later."""
    producers = {output: node for node in model.graph.node for output in node.output}
    queue = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    before: set[str] = set()
    while queue:
        for name in queue.pop().input:
            producer = producers.get(name)
            if producer is not None and producer.name not in before:
                before.add(producer.name)
                queue.append(producer)
    return [node.name for node in model.graph.node if node.name not in before]
