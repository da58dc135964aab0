"""Read and decode image files, each once."""

import hashlib
import io
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import mmengine.fileio as fileio
import numpy as np
from PIL import Image, UnidentifiedImageError

from ibkd_mm.data_check.findings import Fault
from ibkd_mm.utils.parallel import parallel_map
from ibkd_mm.utils.progress import track

# OpenCV decodes these if Pillow does; other formats must be tried with OpenCV too.
_COMMON = {"BMP", "JPEG", "MPO", "PNG", "PPM", "WEBP"}
# OpenCV applies EXIF in these, but never XMP. (Pillow rotates TIFF itself.)
_ROTATED = {"JPEG", "MPO", "PNG"}
_ORIENTATION = 0x0112
_UPRIGHT, _FIRST_TRANSPOSED = 1, 5


@dataclass(frozen=True)
class ImageFile:
    """A file to read; `backend` are mmengine's `backend_args`, and a map's labels are collected."""

    path: str
    is_map: bool = False
    backend: dict[str, Any] | None = field(default=None, compare=False)


class DecodedImage(NamedTuple):
    """Properties of an image file; valid unless there is a `problem`: missing, undecodable or truncated."""

    problem: str = ""
    detail: str = ""
    width: int = 0
    height: int = 0
    orientation: int = _UPRIGHT
    digest: bytes = b""
    labels: tuple[int, ...] | None = None

    def size(self, *, apply_exif: bool) -> tuple[int, int]:
        """Return width and height as stored, or after rotation by the EXIF orientation."""
        is_transposed = apply_exif and self.orientation >= _FIRST_TRANSPOSED
        return (self.height, self.width) if is_transposed else (self.width, self.height)


def read_images(files: Iterable[ImageFile], workers: int | None = None) -> dict[ImageFile, DecodedImage]:
    """Read every file once, with at most `workers` processes, and show the progress."""
    unique = list(dict.fromkeys(files))
    decoded = parallel_map(read_image, unique, workers)
    return dict(zip(unique, track(decoded, "Reading images", len(unique)), strict=True)) if unique else {}


def read_image(file: ImageFile) -> DecodedImage:
    """Read, hash and decode a file; return what is wrong with the file instead of raising."""
    try:
        data = fileio.get(file.path, backend_args=file.backend)
    except FileNotFoundError:
        return DecodedImage("missing")
    except OSError as error:
        return DecodedImage("undecodable", error.strerror or str(error))
    except ValueError as error:  # not a valid path, for example one with a zero byte
        return DecodedImage("missing", str(error))
    if not data:
        return DecodedImage("truncated", "the file is empty")
    with warnings.catch_warnings():  # about large images
        warnings.simplefilter("ignore")
        decoded = _decode(data, file.is_map)
    return decoded._replace(digest=hashlib.blake2b(data, digest_size=16).digest())


def read_header(image: Image.Image) -> DecodedImage:
    """Return size and orientation of an image that Pillow has opened, without decoding it."""
    return DecodedImage("", "", *image.size, _read_orientation(image))


def find_image_faults(
    image: DecodedImage, annotated_size: tuple[int, int] | None, *, applies_exif: bool
) -> list[Fault]:
    """Compare an image with width and height in its annotation file; None if they are not known."""
    if image.problem:
        return [(f"image-{image.problem}", image.detail)]
    size, stored_size = image.size(apply_exif=applies_exif), image.size(apply_exif=False)
    if annotated_size and annotated_size != size:
        detail = "the image is {} x {}, the annotation file has {} x {}".format(*size, *annotated_size)
        return [("image-turned" if annotated_size == stored_size else "image-size", detail)]
    # If rotation changes the size and the annotated size is the rotated one, so are the annotations.
    is_certain = annotated_size and annotated_size != stored_size
    if applies_exif and image.orientation != _UPRIGHT and not is_certain:
        return [("image-orientation", f"EXIF orientation {image.orientation}")]
    return []


def _decode(data: bytes, is_map: bool) -> DecodedImage:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _inspect(image, data, is_map)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return _decode_with_opencv(data)  # Pillow does not know the format, or refuses the size
    except Exception as error:  # decoders raise anything for broken data
        problem = "truncated" if "truncated" in str(error).lower() else "undecodable"
        return DecodedImage(problem, f"{error}")


def _inspect(image: Image.Image, data: bytes, is_map: bool) -> DecodedImage:
    kind = image.format or ""
    if not _has_end_marker(data, kind):
        return DecodedImage("truncated", f"the {kind} data have no end marker")
    if kind not in _COMMON and not is_map:
        by_opencv = _decode_with_opencv(data)
        if by_opencv.problem:
            return by_opencv
    return read_header(image)._replace(labels=_collect_labels(image) if is_map else None)


def _has_end_marker(data: bytes, kind: str) -> bool:
    """Look for the marker after the pixels: decoders accept a file whose end is replaced by zeros."""
    if kind in ("JPEG", "MPO"):
        start_of_scan, end_of_image = b"\xff\xda", b"\xff\xd9"
        return data.rfind(end_of_image) > data.rfind(start_of_scan)
    return kind != "PNG" or data.rfind(b"IEND") > 0


def _read_orientation(image: Image.Image) -> int:
    orientation = _UPRIGHT
    if image.format in _ROTATED and "exif" in image.info:
        exif = Image.Exif()
        with suppress(Exception):  # loaders ignore broken EXIF
            exif.load(image.info["exif"])
            orientation = int(exif.get(_ORIENTATION, _UPRIGHT))
    return orientation if _UPRIGHT < orientation <= 8 else _UPRIGHT


def _collect_labels(image: Image.Image) -> tuple[int, ...]:
    """Return the labels that occur; nothing if the pixels are colours instead of labels."""
    array = np.asarray(image)
    if array.ndim > 2:
        return ()
    if array.dtype == np.uint8:
        return tuple(np.flatnonzero(np.bincount(array.ravel(), minlength=256)).tolist())
    return tuple(np.unique(array).astype(np.int64).tolist())


def _decode_with_opencv(data: bytes) -> DecodedImage:
    level = cv2.setLogLevel(0)
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        return DecodedImage("undecodable", " ".join(str(error).split()))
    finally:
        cv2.setLogLevel(level)
    if array is None:
        return DecodedImage("undecodable", "no decoder knows the format")
    return DecodedImage("", "", array.shape[1], array.shape[0])
