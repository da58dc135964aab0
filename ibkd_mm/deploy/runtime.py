"""Find instances in images with an exported student. Needs only this file, numpy and onnxruntime.

    python runtime.py student.onnx image.jpg --out drawn.png

or `InstanceSegmenter("student.onnx")(image)`. Files are read and written with OpenCV or Pillow, whichever
is installed. `ibkd export --runtime` copies this file beside a model, so that ibkd_mm is not needed there.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
PREFIX = "ibkd_mm."
"""Begins the names of the metadata of a file."""


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a model's file, whose `precision` is fp32, fp16 or int8.

    Images are fitted into `size` (height, width) and padded with the pixel `pad`. If `dynamic`, other batch
    sizes, and sizes in multiples of `stride`, are possible. A mask's cell has a side of `mask_stride` pixels
    of the input. Evaluations use instances with scores above `score_threshold`.
    """

    format: int
    version: str
    precision: str
    classes: list[str]
    size: list[int]
    dynamic: bool
    keep_ratio: bool
    stride: int
    mask_stride: int
    pixels: str
    normalisation: str
    pad: list[float]
    score_threshold: float
    mask_threshold: float

    @classmethod
    def read(cls, entries: Mapping[str, str]) -> "ModelInfo":
        """Read the metadata from the entries of a file, JSON by prefixed name."""
        if f"{PREFIX}format" not in entries:
            raise ValueError("Expected a model that `ibkd export` wrote, found another one.")
        found = json.loads(entries[f"{PREFIX}format"])
        if found != FORMAT:
            raise ValueError(
                f"Expected a model of format {FORMAT}, found {found}. Use the runtime.py of its version."
            )
        return cls(**{each.name: json.loads(entries[PREFIX + each.name]) for each in fields(cls)})


@dataclass(frozen=True)
class Frame:
    """Position of an image in the input: at the top left, scaled by `scale` = (x, y)."""

    height: int
    width: int
    scale: tuple[float, float]


@dataclass(frozen=True)
class Instance:
    """One predicted instance; `box` is x1, y1, x2, y2 in pixels of the image, `name` that of the class.

    `mask` is (height, width) of the image, bool, or None if the model predicts boxes only.
    """

    box: np.ndarray
    score: float
    label: int
    name: str
    mask: np.ndarray | None


class InstanceSegmenter:
    """Finds the instances of an image.

    Args:
        model: an `.onnx` file that `ibkd export` wrote.
        score: instances with higher scores are returned.
        threads: number of threads; None leaves it to onnxruntime.
        providers: onnxruntime's execution providers, such as `CUDAExecutionProvider`.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        score: float = 0.3,
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        onnxruntime = import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        if not Path(model).is_file():
            raise ValueError(f"There is no model {model}.")
        try:
            self.session = onnxruntime.InferenceSession(str(model), options, providers=list(providers))
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ValueError(f"{model} is not a model that onnxruntime can run: {error}") from error
        self.info = ModelInfo.read(self.session.get_modelmeta().custom_metadata_map)
        self.score = score
        batch = self.session.get_inputs()[0].shape[0]
        if isinstance(batch, int) and batch != 1:
            raise ValueError(f"Expected a model with batch size 1, found batch size {batch}.")

    def __call__(self, image: np.ndarray | str | Path) -> list[Instance]:
        """Find instances, the highest score first, in a file or an image (height, width, 3) uint8.

        It is RGB as Pillow returns it (from OpenCV: `image[..., ::-1]`).
        """
        if not isinstance(image, np.ndarray):
            image = read_image(image)
        inputs, frame = letterbox(image, self.info)
        names = [output.name for output in self.session.get_outputs()]
        outputs = zip(names, self.session.run(names, {"images": inputs}), strict=True)
        return to_instances({name: each[0] for name, each in outputs}, frame, self.info, self.score)


def letterbox(image: np.ndarray, info: ModelInfo) -> tuple[np.ndarray, Frame]:
    """Fit an image (height, width, 3) uint8, RGB into the model's size, padded below and to the right.

    Returns (1, 3, H, W) float32, and the position of the image in it.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"Expected an image (height, width, 3) uint8, found {image.shape} {image.dtype}.")
    height, width = image.shape[:2]
    rows, columns = _fitted_size(height, width, info)
    padded = [-(-side // info.stride) * info.stride for side in (rows, columns)]
    inputs = np.empty((1, 3, *(padded if info.dynamic else info.size)), np.float32)
    resized = image if (rows, columns) == (height, width) else resize(image, rows, columns)
    for channel, fill in enumerate(info.pad):
        plane = inputs[0, channel]
        plane[:rows, :columns] = resized[..., channel]
        plane[rows:] = fill
        plane[:rows, columns:] = fill
    return inputs, Frame(height, width, (columns / width, rows / height))


def _fitted_size(height: int, width: int, info: ModelInfo) -> tuple[int, int]:
    rows, columns = info.size
    if not info.keep_ratio:
        return rows, columns
    if info.dynamic:  # portrait or landscape, as mmdet's Resize fits it
        scale = min(max(info.size) / max(height, width), min(info.size) / min(height, width))
    else:
        scale = min(rows / height, columns / width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resize with bilinear interpolation, with OpenCV if it is installed or else with the same rule."""
    opencv = _optional("cv2")
    if opencv is not None:
        return opencv.resize(np.ascontiguousarray(image), (columns, rows), interpolation=opencv.INTER_LINEAR)
    height, width = image.shape[:2]
    down, across = _Taps.along(rows, height, height / rows), _Taps.along(columns, width, width / columns)
    values = down.interpolate(image.astype(np.float32), down.fraction[:, None, None])
    values = across.interpolate(values.swapaxes(0, 1), across.fraction[:, None, None]).swapaxes(0, 1)
    return (values + 0.5).astype(np.uint8)


def to_instances(
    outputs: Mapping[str, np.ndarray], frame: Frame, info: ModelInfo, score: float
) -> list[Instance]:
    """Convert the model's outputs for one image into instances; those with scores above `score` are kept.

    `outputs` are boxes (N, 4), scores (N,), labels (N,) and perhaps masks (N, h, w), the best first.
    """
    kept = slice(int((outputs["scores"] > score).sum()))
    boxes = outputs["boxes"][kept] / np.array(frame.scale * 2, np.float32)
    boxes = boxes.clip(0, np.array((frame.width, frame.height) * 2, np.float32))
    masks: Sequence[np.ndarray | None] = [None] * len(boxes)
    if "masks" in outputs:
        masks = list(enlarge(outputs["masks"][kept], boxes, frame, info))
    labels = [int(label) for label in outputs["labels"][kept]]
    return [
        Instance(box, float(value), label, info.classes[label], mask)
        for box, value, label, mask in zip(boxes, outputs["scores"][kept], labels, masks, strict=True)
    ]


@dataclass(frozen=True)
class _Taps:
    """The first of the two cells around each pixel along a side, and how far it is to the second."""

    first: np.ndarray
    fraction: np.ndarray

    @classmethod
    def along(cls, pixels: int, cells: int, scale: float) -> "_Taps":
        """Locate the centres of pixels, each `scale` cells long, between the centres of cells."""
        place = ((np.arange(pixels, dtype=np.float32) + 0.5) * scale - 0.5).clip(0, cells - 1)
        first = np.minimum(place.astype(np.int64), max(cells - 2, 0))
        return cls(first, (place - first).astype(np.float32))

    def crop(self, start: int, stop: int) -> tuple["_Taps", slice]:
        """Return the taps of some pixels, counted from the first cell that they need, and these cells."""
        first = self.first[start:stop]
        return _Taps(first - first[0], self.fraction[start:stop]), slice(first[0], first[-1] + 2)

    def interpolate(self, cells: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """Interpolate along the first dimension; `fraction` must broadcast."""
        if len(cells) == 1:
            return cells[self.first]
        values = (cells[1:] - cells[:-1]).take(self.first, axis=0)
        values *= fraction
        values += cells.take(self.first, axis=0)
        return values


def enlarge(masks: np.ndarray, boxes: np.ndarray, frame: Frame, info: ModelInfo) -> np.ndarray:
    """Enlarge masks (N, h, w), logits, inside their boxes (N, 4) in the image: (N, height, width), bool."""
    rows = _Taps.along(frame.height, masks.shape[1], frame.scale[1] / info.mask_stride)
    columns = _Taps.along(frame.width, masks.shape[2], frame.scale[0] / info.mask_stride)
    enlarged = np.zeros((len(masks), frame.height, frame.width), bool)
    edges = np.ceil(boxes - 0.5).astype(int)  # the first pixels whose centres are inside and behind the box
    for output, mask, (left, top, right, bottom) in zip(enlarged, masks, edges.tolist(), strict=True):
        if left < right and top < bottom:
            down, cell_rows = rows.crop(top, bottom)
            across, cell_columns = columns.crop(left, right)
            cells = sigmoid(mask[cell_rows, cell_columns])
            wide = across.interpolate(np.ascontiguousarray(cells.T), across.fraction[:, None]).T
            values = down.interpolate(np.ascontiguousarray(wide), down.fraction[:, None])
            np.greater(values, info.mask_threshold, out=output[top:bottom, left:right])
    return enlarged


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Compute the sigmoid, in a form that cannot overflow."""
    return 0.5 * np.tanh(0.5 * logits) + 0.5


def read_image(path: str | Path) -> np.ndarray:
    """Read a file as (height, width, 3) uint8, RGB, rotated as its EXIF data require."""
    if not Path(path).is_file():
        raise ValueError(f"There is no image {path}.")
    opencv = _optional("cv2")
    if opencv is not None:
        image = opencv.imread(str(path), opencv.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{path} is not an image that can be read.")
        return np.ascontiguousarray(image[..., ::-1])
    pillow, operations = _pillow()
    try:
        with pillow.open(path) as opened:
            return np.asarray(operations.exif_transpose(opened).convert("RGB"))
    except OSError as error:
        raise ValueError(f"{path} is not an image that can be read.") from error


def draw(image: np.ndarray, instances: Sequence[Instance]) -> np.ndarray:
    """Draw the masks of instances, or their boxes if there are none, those with high scores on top."""
    drawn = image.astype(np.float32)
    for place, instance in reversed(list(enumerate(instances))):
        colour = np.array([(37 * place + 41 * shift) % 256 for shift in (1, 3, 5)], np.float32)
        where = _outline(instance.box, image.shape[:2]) if instance.mask is None else instance.mask
        drawn[where] = (drawn[where] + colour) / 2
    return drawn.astype(np.uint8)


def _outline(box: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Mark the pixels of a box's edge, (height, width)."""
    left, top, right, bottom = np.ceil(box - 0.5).astype(int)
    marked = np.zeros(size, bool)
    marked[top:bottom, left:right] = True
    marked[top + 2 : bottom - 2, left + 2 : right - 2] = False
    return marked


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write (height, width, 3) uint8, RGB to a file."""
    opencv = _optional("cv2")
    pillow: Any = _pillow()[0] if opencv is None else None
    try:
        if opencv is None:
            pillow.fromarray(image).save(path)
        elif not opencv.imwrite(str(path), np.ascontiguousarray(image[..., ::-1])):
            raise OSError("does the folder exist?")
    except Exception as error:  # OpenCV and Pillow raise different types for an unknown suffix
        raise ValueError(f"{path} cannot be written: {error}") from error


def _optional(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        return None


def _pillow() -> tuple[Any, Any]:
    pillow, operations = _optional("PIL.Image"), _optional("PIL.ImageOps")
    if pillow is None:
        raise ValueError("Reading and writing image files needs OpenCV or Pillow: `pip install pillow`.")
    return pillow, operations


def main(argv: Sequence[str] | None = None) -> int:
    """Print the instances of an image and, with --out, draw them."""
    parser = argparse.ArgumentParser(description="Find the instances of an image with an exported student.")
    parser.add_argument("model", help="an .onnx file that `ibkd export` wrote")
    parser.add_argument("image", help="an image file")
    parser.add_argument("--score", type=float, default=0.3, help="minimum score (default: 0.3)")
    parser.add_argument("--out", help="draw the instances into this file")
    args = parser.parse_args(argv)
    try:
        image = read_image(args.image)
        instances = InstanceSegmenter(args.model, score=args.score)(image)
        if args.out:
            write_image(args.out, draw(image, instances))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for each in instances:
        print(f"{each.score:.3f}  {each.name}  ({', '.join(f'{side:.1f}' for side in each.box)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
