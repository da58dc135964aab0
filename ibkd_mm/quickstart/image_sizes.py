"""Sizes of pictures, from their headers."""

import warnings
from contextlib import suppress
from pathlib import Path

from PIL import Image

from ibkd_mm.data_check.images import ImageFile, read_header, read_image


def size_of(file: Path) -> tuple[int, int]:
    """Give width and height as the loader turns a picture, (0, 0) of one that cannot be read.

    A whole picture is read only where its header does not tell: that takes far longer.
    """
    found = _by_header(file)
    return found or read_image(ImageFile(str(file))).size(apply_exif=True)


def _by_header(file: Path) -> tuple[int, int] | None:
    """Read as little as tells what `read_image` finds in the whole; None where that is not sure."""
    with warnings.catch_warnings(), suppress(Exception):  # decoders raise whatever they like
        warnings.simplefilter("ignore")  # of large images
        with Image.open(file) as image:
            if image.format == "PNG" and "exif" not in image.info:  # behind pixels Pillow looks by decoding
                return None if b"eXIf" in file.read_bytes() else image.size
            return read_header(image).size(apply_exif=True)
    return None
