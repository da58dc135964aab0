"""Translate an export graph into an ONNX model."""

import gc
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ibkd_mm.distill.interfaces import ExportGraph
from ibkd_mm.utils.silence import quiet

OPSET = 18
"""The version that PyTorch's translations are written in; ONNX Runtime supports it since 1.14 (2023)."""

_VERBOSE_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


def trace(graph: ExportGraph, *, lengths: Mapping[str, int]) -> Any:
    """Translate a graph into an `onnx.ModelProto`.

    Args:
        graph: module in evaluation mode.
        lengths: lengths of the named axes that are fixed; the others are dynamic.
    """
    axes = {name: _dim(name, valid) for name, valid in graph.dynamic_axes.items() if name not in lengths}
    dynamic = tuple(
        {place: axes[side] for place, side in enumerate(shape) if side in axes}
        for shape, _ in graph.inputs.values()
    )
    with quiet(*map(logging.getLogger, _VERBOSE_LOGGERS)), _garbage_collection_off():
        program = torch.onnx.export(
            graph,  # type: ignore[arg-type]
            graph.example_inputs(lengths),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=dynamic if axes else None,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _dim(name: str, valid: range) -> Any:
    step = valid.step
    dim = torch.export.Dim(name, min=valid[0] // step, max=valid[-1] // step)
    return dim if step == 1 else step * dim


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """Collect no garbage: with so many objects in use, collecting takes seven eighths of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
