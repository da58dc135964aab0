"""Check run-length encoded masks without pycocotools, which reads past the end of a broken one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibkd_mm.data_check.findings import Fault
from ibkd_mm.data_check.values import as_numbers, is_length, shorten

_BITS, _MORE, _NEGATIVE, _VALUE = 5, 0x20, 0x10, 0x1F
_MAX_CHARACTERS = 7  # of a number of 32 bits, the most that pycocotools stores


def find_rle_fault(rle: Mapping[str, Any], size: tuple[int, int] | None) -> Fault | None:
    """Check an RLE, compressed or not, against the image's width and height, if known."""
    shape = rle.get("size")
    if not isinstance(shape, list) or len(shape) != 2 or not all(is_length(side) for side in shape):
        return "mask-malformed", f"expected size [height, width] in the RLE, found {shorten(shape)}"
    height, width = shape
    if size and size != (width, height):
        return "rle-size", f"the RLE is {width} x {height}, the image {size[0]} x {size[1]}"
    try:
        runs = decode_runs(rle.get("counts"))
    except ValueError as error:
        return "rle-undecodable", str(error)
    if (runs < 0).any():
        return "rle-counts", f"run {int(np.argmax(runs < 0))} is negative"
    if runs.sum() != height * width:
        return "rle-counts", f"the runs add up to {runs.sum()} pixels, the image has {height * width}"
    return None if runs[1::2].any() else ("mask-empty", "")


def decode_runs(counts: Any) -> NDArray[np.int64]:
    """Return the lengths of the runs, background first; raise ValueError if they cannot be decoded."""
    if isinstance(counts, str):
        return _decompress(counts)
    runs = as_numbers(counts)
    if runs is None:
        raise ValueError(f"expected counts as a string or a list of numbers, found {shorten(counts)}")
    if not (np.abs(runs) < 1 << 32).all() or (runs % 1).any():
        raise ValueError("expected whole numbers of 32 bits in the list of counts")
    return runs.astype(np.int64)


def _decompress(text: str) -> NDArray[np.int64]:
    """Undo COCO's compression.

    A character encodes six bits, starting at '0': five bits of a number, lowest first, and one that is set if
    the number continues. From the fourth on, a number is the difference to the one two before it.
    """
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - ord("0")
    if not codes.size:
        return codes
    if codes.min() < 0 or codes.max() >= 2 * _MORE:
        raise ValueError("the counts contain a character that the encoding does not use")
    ends = np.flatnonzero(codes & _MORE == 0)
    if not ends.size or ends[-1] != len(codes) - 1:
        raise ValueError("the counts end within a number: they are truncated")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CHARACTERS:
        raise ValueError("the counts contain a number of more than 32 bits")
    digits = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & _VALUE) << (_BITS * digits), starts)
    runs -= np.where(codes[ends] & _NEGATIVE, 1 << (_BITS * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
