"""From a PyTorch module to an ONNX model."""

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ibkd_mm.utils.silence import quiet
from ibkd_mm.yolov10.export_graph import INPUT, DeployedStudent

OPSET = 18
"""The one that PyTorch's translations are written in; ONNX Runtime knows it since 1.14, of 2023."""

_TALKATIVE = ("torch.onnx", "onnxscript", "onnx_ir")
_EXAMPLE = (2, 3, 5, 6)
"""Batch, channels, and height and width in strides: all different, that none is taken for another."""


def trace(graph: DeployedStudent, *, batch: int, size: Sequence[int], dynamic: bool) -> Any:
    """Translate a graph.

    Args:
        graph: in evaluation.
        batch: pictures at a time.
        size: height and width.
        dynamic: whether batch, height and width stay open.

    Returns:
        an `onnx.ModelProto`.
    """
    shape, open_sides = (batch, 3, *size), None
    if dynamic:
        shape, open_sides = _opened(graph)
    with quiet(*map(logging.getLogger, _TALKATIVE)), _garbage_kept():
        program = torch.onnx.export(
            graph,
            (torch.zeros(shape),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(graph.outputs),
            dynamic_shapes=open_sides,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Look for no garbage: among so many objects that are all in use it takes an eighth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _opened(graph: DeployedStudent) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Give an example's shape, and the sides that stay open."""
    stride = max(graph.head.strides)
    batch, channels, rows, columns = _EXAMPLE
    rows_open, columns_open = (torch.export.Dim(name, min=1, max=1024) for name in ("rows", "columns"))
    sides = {0: torch.export.Dim("batch", min=1), 2: stride * rows_open, 3: stride * columns_open}
    return (batch, channels, rows * stride, columns * stride), {INPUT: sides}
