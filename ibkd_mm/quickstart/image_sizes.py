"""Sizes of image files, read from their headers."""

import warnings
from contextlib import suppress
from pathlib import Path

from PIL import Image

from ibkd_mm.data_check.images import ImageFile, read_header, read_image


def size_of(file: Path) -> tuple[int, int]:
    """Return width and height of an image as the loader turns it, (0, 0) if it cannot be read.

    The whole image is decoded only if its header is not enough, because that takes far longer.
    """
    return _size_from_header(file) or read_image(ImageFile(str(file))).size(apply_exif=True)


def _size_from_header(file: Path) -> tuple[int, int] | None:
    """Return the size that `read_image` finds by decoding; None if the header may not show it."""
    with warnings.catch_warnings(), suppress(Exception):  # decoders raise exceptions of any type
        warnings.simplefilter("ignore")  # about large images
        with Image.open(file) as image:
            if image.format == "PNG" and "exif" not in image.info:  # it may follow the pixels
                return None if b"eXIf" in file.read_bytes() else image.size
            return read_header(image).size(apply_exif=True)
    return None
