"""Convert a batch to tensors and plain values, and back, so that a file with it needs no classes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData
from torch import Tensor

_TAG = "_class"
_VALUES = (str, int, float, bool, type(None))


def to_plain(value: Any) -> Any:
    """Convert a batch; TypeError names an object in it that cannot be saved."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is Tensor or type(value) in _VALUES:
        return value
    if type(value) in (list, tuple):
        return type(value)(to_plain(item) for item in value)
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    name = type(value).__name__
    if name not in _PARTS:
        raise TypeError(f"the batch holds a {name}, which cannot be saved")
    return {_TAG: name, "parts": to_plain(_PARTS[name](value))}


def from_plain(value: Any) -> Any:
    """Convert the output of `to_plain` back; other values may raise any error."""
    if type(value) is Tensor or type(value) in _VALUES:
        return value
    if type(value) in (list, tuple):
        return type(value)(from_plain(item) for item in value)
    if type(value) is not dict:
        raise TypeError(f"a {type(value).__name__} in the batch")
    if _TAG in value:
        return _constructors()[value[_TAG]](*from_plain(value["parts"]))
    return {key: from_plain(item) for key, item in value.items()}


def _element_parts(element: BaseDataElement) -> tuple[dict[str, Any], dict[str, Any]]:
    return dict(element.metainfo_items()), dict(element.items())


def _make_element(kind: Any, metainfo: dict[str, Any], data: dict[str, Any]) -> BaseDataElement:
    element: BaseDataElement = kind(metainfo=metainfo)
    element.set_data(data)
    return element


_ELEMENTS = ("DetDataSample", "SegDataSample", "BaseDataElement", "InstanceData", "PixelData", "LabelData")
_PARTS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    **dict.fromkeys(_ELEMENTS, _element_parts),
    "HorizontalBoxes": lambda boxes: (boxes.tensor,),
    "BitmapMasks": lambda masks: (masks.masks, masks.height, masks.width),
    "PolygonMasks": lambda masks: (masks.masks, masks.height, masks.width),
    "ndarray": lambda array: (torch.from_numpy(np.ascontiguousarray(array)), tuple(array.shape)),
}


def _constructors() -> dict[str, Callable[..., Any]]:
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks, PolygonMasks
    from mmseg.structures import SegDataSample

    elements = (DetDataSample, SegDataSample, BaseDataElement, InstanceData, PixelData, LabelData)
    return {
        **{kind.__name__: partial(_make_element, kind) for kind in elements},
        "HorizontalBoxes": lambda tensor: HorizontalBoxes(tensor, clone=False),
        "BitmapMasks": BitmapMasks,
        "PolygonMasks": PolygonMasks,
        "ndarray": lambda tensor, shape: tensor.numpy().reshape(shape),
    }
