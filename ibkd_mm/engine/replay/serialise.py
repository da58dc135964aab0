"""Convert a batch to tensors and plain values, and back, so that a file with it needs no classes."""

from collections.abc import Callable
from functools import cache, partial
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
    if name not in _converters():
        raise TypeError(f"the batch holds a {name}, which cannot be saved")
    split, _ = _converters()[name]
    return {_TAG: name, "parts": to_plain(split(value))}


def from_plain(value: Any) -> Any:
    """Convert the output of `to_plain` back; other values may raise any error."""
    if type(value) is Tensor or type(value) in _VALUES:
        return value
    if type(value) in (list, tuple):
        return type(value)(from_plain(item) for item in value)
    if type(value) is not dict:
        raise TypeError(f"a {type(value).__name__} in the batch")
    if _TAG in value:
        _, make = _converters()[value[_TAG]]
        return make(*from_plain(value["parts"]))
    return {key: from_plain(item) for key, item in value.items()}


def _make_element(kind: Any, metainfo: dict[str, Any], data: dict[str, Any]) -> BaseDataElement:
    element: BaseDataElement = kind(metainfo=metainfo)
    element.set_data(data)
    return element


@cache
def _converters() -> dict[str, tuple[Callable[[Any], tuple[Any, ...]], Callable[..., Any]]]:
    """Return, by the name of a class, how an object is split into parts and made from them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks, PolygonMasks
    from mmseg.structures import SegDataSample

    def split_element(element: Any) -> tuple[Any, ...]:
        return dict(element.metainfo_items()), dict(element.items())

    def split_masks(masks: Any) -> tuple[Any, ...]:
        return masks.masks, masks.height, masks.width

    def split_array(array: Any) -> tuple[Any, ...]:
        return torch.from_numpy(np.ascontiguousarray(array)), tuple(array.shape)

    elements = (DetDataSample, SegDataSample, BaseDataElement, InstanceData, PixelData, LabelData)
    return {
        **{kind.__name__: (split_element, partial(_make_element, kind)) for kind in elements},
        "HorizontalBoxes": (lambda boxes: (boxes.tensor,), partial(HorizontalBoxes, clone=False)),
        "BitmapMasks": (split_masks, BitmapMasks),
        "PolygonMasks": (split_masks, PolygonMasks),
        "ndarray": (split_array, lambda tensor, shape: tensor.numpy().reshape(shape)),
    }
