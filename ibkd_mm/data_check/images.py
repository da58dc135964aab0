"""Image files, each read and decoded once."""

import hashlib
import io
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import mmengine.fileio as fileio
import numpy as np
from PIL import Image, UnidentifiedImageError

from ibkd_mm.data_check.findings import Fault

# OpenCV decodes these wherever Pillow does; of the rest it has to be asked.
_COMMON = {"BMP", "JPEG", "MPO", "PNG", "PPM", "WEBP"}
# Where OpenCV turns what it has decoded as EXIF says; of XMP it knows nothing. (Pillow turns TIFF by itself.)
_TURNED = {"JPEG", "MPO", "PNG"}
_ORIENTATION = 0x0112
_UPRIGHT, _FIRST_SIDEWAYS = 1, 5


@dataclass(frozen=True)
class Task:
    """A file to read, with mmengine's `backend_args`; of segmentation maps the labels are wanted too."""

    path: str
    is_map: bool = False
    backend: dict[str, Any] | None = field(default=None, compare=False)


class Picture(NamedTuple):
    """What a file holds.

    `problem` is 'missing', 'undecodable' or 'truncated' and `detail` says more; the rest is then unknown.
    """

    problem: str = ""
    detail: str = ""
    width: int = 0
    height: int = 0
    orientation: int = _UPRIGHT
    digest: bytes = b""
    labels: tuple[int, ...] | None = None

    def size(self, turned: bool) -> tuple[int, int]:
        """Width and height as stored, or as they are once turned to what EXIF says is upright."""
        sideways = turned and self.orientation >= _FIRST_SIDEWAYS
        return (self.height, self.width) if sideways else (self.width, self.height)


def read_picture(task: Task) -> Picture:
    """Read, hash and decode a file; never raises for what is wrong with the file."""
    try:
        data = fileio.get(task.path, backend_args=task.backend)
    except FileNotFoundError:
        return Picture("missing")
    except OSError as error:
        return Picture("undecodable", error.strerror or str(error))
    except ValueError as error:  # no path on any disk, such as one with a zero byte
        return Picture("missing", str(error))
    if not data:
        return Picture("truncated", "the file is empty")
    with warnings.catch_warnings():  # of large images
        warnings.simplefilter("ignore")
        found = _decode(data, task.is_map)
    return found._replace(digest=hashlib.blake2b(data, digest_size=16).digest())


def picture_faults(picture: Picture, said: tuple[int, int] | None, turned: bool) -> list[Fault]:
    """Find what is wrong with a picture.

    Args:
        picture: what its file holds.
        said: width and height by the annotation file.
        turned: whether the loader turns images as their EXIF says.
    """
    if picture.problem:
        return [(f"image-{picture.problem}", picture.detail)]
    size = picture.size(turned)
    sizes = f"{size[0]} x {size[1]}"
    if said and said != size:
        kind = "image-turned" if said == picture.size(False) else "image-size"
        return [(kind, f"it is {sizes}, its entry says {said[0]} x {said[1]}")]
    # A size that turning has changed, and the entry has, shows that the annotations were drawn after it.
    if turned and picture.orientation != _UPRIGHT and not (said and said != picture.size(False)):
        return [("image-orientation", f"EXIF orientation {picture.orientation}")]
    return []


def _decode(data: bytes, is_map: bool) -> Picture:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _described(image, data, is_map)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return _decode_by_opencv(data)  # not a format of Pillow's, or larger than it takes
    except Exception as error:  # decoders raise whatever they like at broken data
        problem = "truncated" if "truncated" in str(error).lower() else "undecodable"
        return Picture(problem, f"{error}")


def _described(image: Image.Image, data: bytes, is_map: bool) -> Picture:
    kind = image.format or ""
    if not _has_end(data, kind):
        return Picture("truncated", f"the {kind} data have no end")
    if kind not in _COMMON and not is_map:
        by_opencv = _decode_by_opencv(data)
        if by_opencv.problem:
            return by_opencv
    labels = _labels(image) if is_map else None
    return shown(image)._replace(labels=labels)


def shown(image: Image.Image) -> Picture:
    """Take size and orientation of an image that Pillow has opened; it need not be decoded."""
    return Picture("", "", *image.size, _orientation(image))


def _has_end(data: bytes, kind: str) -> bool:
    """Look for the mark behind the pixels: where zeros stand for what is lost, decoders are silent."""
    if kind in ("JPEG", "MPO"):
        start_of_scan, end_of_image = b"\xff\xda", b"\xff\xd9"
        return data.rfind(end_of_image) > data.rfind(start_of_scan)
    return kind != "PNG" or data.rfind(b"IEND") > 0


def _orientation(image: Image.Image) -> int:
    found = _UPRIGHT
    if image.format in _TURNED and "exif" in image.info:
        exif = Image.Exif()
        with suppress(Exception):  # broken EXIF is read by nobody
            exif.load(image.info["exif"])
            found = int(exif.get(_ORIENTATION, _UPRIGHT))
    return found if _UPRIGHT < found <= 8 else _UPRIGHT


def _labels(image: Image.Image) -> tuple[int, ...]:
    """The values that occur; none where pixels are colours and not labels."""
    array = np.asarray(image)
    if array.ndim > 2:
        return ()
    if array.dtype == np.uint8:
        return tuple(np.flatnonzero(np.bincount(array.ravel(), minlength=256)).tolist())
    return tuple(np.unique(array).astype(np.int64).tolist())


def _decode_by_opencv(data: bytes) -> Picture:
    level = cv2.setLogLevel(0)
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        return Picture("undecodable", " ".join(str(error).split()))
    finally:
        cv2.setLogLevel(level)
    if array is None:
        return Picture("undecodable", "no decoder knows the format")
    return Picture("", "", array.shape[1], array.shape[0])
