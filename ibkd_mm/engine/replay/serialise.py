"""A batch as tensors and plain values, and back: what is read from a file then needs no class to read it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData
from torch import Tensor

_TAG = "_class"
_VALUES = (str, int, float, bool, type(None))


def to_plain(value: Any) -> Any:
    """Take a batch apart; TypeError names what of it cannot be kept."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is Tensor or type(value) in _VALUES:
        return value
    if type(value) in (list, tuple):
        return type(value)(to_plain(one) for one in value)
    if isinstance(value, dict):
        return {str(key): to_plain(one) for key, one in value.items()}
    name = type(value).__name__
    if name not in _PARTS:
        raise TypeError(f"the batch holds a {name}, which cannot be kept")
    return {_TAG: name, "parts": to_plain(_PARTS[name](value))}


def from_plain(value: Any) -> Any:
    """Put a batch together again; what `to_plain` did not make raises one error or another."""
    if type(value) is Tensor or type(value) in _VALUES:
        return value
    if type(value) in (list, tuple):
        return type(value)(from_plain(one) for one in value)
    if type(value) is not dict:
        raise TypeError(f"a {type(value).__name__} in the batch")
    if _TAG in value:
        return _makers()[value[_TAG]](*from_plain(value["parts"]))
    return {key: from_plain(one) for key, one in value.items()}


def _of_element(element: BaseDataElement) -> tuple[dict[str, Any], dict[str, Any]]:
    return dict(element.metainfo_items()), dict(element.items())


_PARTS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    **dict.fromkeys(("DetDataSample", "SegDataSample", "BaseDataElement"), _of_element),
    **dict.fromkeys(("InstanceData", "PixelData", "LabelData"), _of_element),
    "HorizontalBoxes": lambda boxes: (boxes.tensor,),
    "BitmapMasks": lambda masks: (masks.masks, masks.height, masks.width),
    "PolygonMasks": lambda masks: (masks.masks, masks.height, masks.width),
    "ndarray": lambda array: (torch.from_numpy(np.ascontiguousarray(array)), tuple(array.shape)),
}


def _makers() -> dict[str, Callable[..., Any]]:
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks, PolygonMasks
    from mmseg.structures import SegDataSample

    elements = (DetDataSample, SegDataSample, BaseDataElement, InstanceData, PixelData, LabelData)
    return {
        **{kind.__name__: _element_maker(kind) for kind in elements},
        "HorizontalBoxes": lambda tensor: HorizontalBoxes(tensor, clone=False),
        "BitmapMasks": BitmapMasks,
        "PolygonMasks": PolygonMasks,
        "ndarray": lambda tensor, shape: tensor.numpy().reshape(shape),
    }


def _element_maker(kind: type[BaseDataElement]) -> Callable[..., BaseDataElement]:
    def make(information: dict[str, Any], data: dict[str, Any]) -> BaseDataElement:
        made = kind(metainfo=information)
        made.set_data(data)
        return made

    return make
