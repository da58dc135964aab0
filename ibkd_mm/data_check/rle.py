"""Run-length encoded masks, validated but not decoded: pycocotools reads past the end of a broken one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibkd_mm.data_check.findings import Fault
from ibkd_mm.data_check.values import as_numbers, is_length, shortly

_BITS = 5
_MORE, _NEGATIVE, _VALUE = 0x20, 0x10, 0x1F
_LONGEST = 7
"""Characters of a number; 32 bits, which pycocotools keeps, need no more."""


def rle_fault(rle: Mapping[str, Any], size: tuple[int, int] | None) -> Fault | None:
    """Find what is wrong with an RLE, compressed or not.

    Args:
        rle: COCO's `{'size': [height, width], 'counts': text or list}`.
        size: width and height of the image, where they are known.
    """
    shape = rle.get("size")
    if not isinstance(shape, list) or len(shape) != 2 or not all(is_length(side) for side in shape):
        return "mask-malformed", f"expected size [height, width] in the RLE, found {shortly(shape)}"
    height, width = shape
    if size and size != (width, height):
        return "rle-size", f"the RLE is {width} x {height}, the image {size[0]} x {size[1]}"
    try:
        runs = runs_of(rle.get("counts"))
    except ValueError as error:
        return "rle-undecodable", str(error)
    if (runs < 0).any():
        return "rle-counts", f"run {int(np.argmax(runs < 0))} is negative"
    if runs.sum() != height * width:
        return "rle-counts", f"the runs add up to {runs.sum()} pixels, the image has {height * width}"
    if not runs[1::2].any():
        return "mask-empty", ""
    return None


def runs_of(counts: Any) -> NDArray[np.int64]:
    """Read the lengths of the runs, of pixels off and on in turn.

    Raises:
        ValueError: saying why they cannot be read.
    """
    if isinstance(counts, str):
        return _decompress(counts)
    runs = as_numbers(counts)
    if runs is None:
        raise ValueError(f"expected counts as text or a list of numbers, found {shortly(counts)}")
    if not (np.abs(runs) < 1 << 32).all() or (runs % 1).any():
        raise ValueError("the list of counts holds something else than whole numbers of 32 bits")
    return runs.astype(np.int64)


def _decompress(text: str) -> NDArray[np.int64]:
    """Undo COCO's compression.

    A character holds six bits, from '0' on: five of a number, lowest first, and one that says that the number
    goes on. From the fourth on, a number is the difference to the one two before it.
    """
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - ord("0")
    if not codes.size:
        return codes
    if codes.min() < 0 or codes.max() >= 2 * _MORE:
        raise ValueError("the text of counts holds a character that is not of the encoding")
    ends = np.flatnonzero(codes & _MORE == 0)
    if not ends.size or ends[-1] != len(codes) - 1:
        raise ValueError("the text of counts ends within a number; it is cut short")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        raise ValueError("the text of counts holds a number of more than 32 bits")
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & _VALUE) << (_BITS * places), starts)
    runs -= np.where(codes[ends] & _NEGATIVE, 1 << (_BITS * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
