"""Eight bits for the network; what comes after it stays as it is."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ibkd_mm.utils.silence import quiet
from ibkd_mm.yolov10.export_graph import INPUT

QUANTISED = ("Conv", "ConvTranspose", "MaxPool", "Concat", "Add", "Mul", "Sigmoid", "Resize", "Split")


def quantise(model: Any, inputs: Iterable[np.ndarray], path: Path) -> Any:
    """Quantise by ONNX Runtime: weights by channel, activations by the ranges that pictures show.

    Args:
        model: an `onnx.ModelProto` in float32.
        inputs: of the model, to calibrate with.
        path: file that it may write.

    Returns:
        an `onnx.ModelProto`.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(self.rest, None)
            return None if images is None else {INPUT: images}

    model = onnx.shape_inference.infer_shapes(model)
    with quiet(logging.getLogger()):  # it gives advice on the root logger
        quantize_static(
            model,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=exact_nodes(model),
        )
    return onnx.load(path)


def exact_nodes(model: Any) -> list[str]:
    """Name the nodes that keep their precision: the last convolutions, which predict, and all behind them.

    These are the nodes from which no convolution can be reached.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    waiting = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    before: set[str] = set()
    seen: set[str] = set()
    while waiting:
        for name in waiting.pop().input:
            maker = makers.get(name)
            if maker is not None and maker.name not in seen:
                seen.add(maker.name)
                before.add(maker.name)
                waiting.append(maker)
    return [node.name for node in model.graph.node if node.name not in before]
