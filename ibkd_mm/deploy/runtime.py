"""Find instances in pictures with an exported student: this file, numpy and onnxruntime are all it takes.

    python runtime.py student.onnx picture.jpg --out drawn.png

or `InstanceSegmenter("student.onnx")(picture)`. Files are read and written by OpenCV or Pillow, whichever is
there. It is a file by itself, to be copied beside a model (`ibkd export --runtime` does), since importing it
as a part of ibkd_mm would import what trains students as well.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
_PREFIX = "ibkd_mm."


@dataclass(frozen=True)
class ModelInfo:
    """What a model's file says of itself."""

    format: int
    version: str
    """Of the program that wrote it."""
    precision: str
    """fp32, fp16 or int8."""
    classes: list[str]
    size: list[int]
    """Height and width that pictures are made to fit."""
    dynamic: bool
    """Whether it takes other sizes and batches too."""
    keep_ratio: bool
    stride: int
    """What heights and widths are multiples of."""
    mask_stride: int
    """Pixels along the side of a mask's cell."""
    pixels: str
    normalisation: str
    pad: list[float]
    """The pixel that is put below and to the right of a picture."""
    score_threshold: float
    """What scores exceed in an evaluation."""
    mask_threshold: float

    def entries(self) -> dict[str, str]:
        """Put it as entries of a file's metadata: JSON by name."""
        return {f"{_PREFIX}{name}": json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def read(cls, entries: Mapping[str, str]) -> "ModelInfo":
        """Read it from such entries."""
        if f"{_PREFIX}format" not in entries:
            raise ValueError("Expected a model that `ibkd export` wrote, found another one.")
        found = json.loads(entries[f"{_PREFIX}format"])
        if found != FORMAT:
            raise ValueError(
                f"Expected a model of format {FORMAT}, found {found}. Use the runtime of its time."
            )
        return cls(**{each.name: json.loads(entries[_PREFIX + each.name]) for each in fields(cls)})


@dataclass(frozen=True)
class Frame:
    """How a picture of `height` by `width` lies in the input: scaled by `scale`, (x, y), at the top left."""

    height: int
    width: int
    scale: tuple[float, float]


@dataclass(frozen=True)
class Instance:
    """One instance that was found."""

    box: np.ndarray
    """(4,): x1, y1, x2, y2 in pixels of the picture."""
    score: float
    label: int
    name: str
    """Of its class."""
    mask: np.ndarray | None
    """(height, width) of the picture, booleans. None where the model finds boxes alone."""


class InstanceSegmenter:
    """Finds the instances of a picture.

    Args:
        model: an `.onnx` file that `ibkd export` wrote.
        score: what scores must exceed.
        threads: how many to compute with; onnxruntime's choice if None.
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
        except Exception as error:  # the runtime's errors have no common type of their own
            raise ValueError(f"{model} is no model that onnxruntime can run: {error}") from error
        self.info = ModelInfo.read(self.session.get_modelmeta().custom_metadata_map)
        self.score = score
        batch = self.session.get_inputs()[0].shape[0]
        if isinstance(batch, int) and batch != 1:
            raise ValueError(f"Expected a model for one picture at a time, found one for {batch}.")

    def __call__(self, picture: np.ndarray | str | Path) -> list[Instance]:
        """Find instances, the surest first.

        Args:
            picture: (height, width, 3), bytes, RGB as Pillow gives it (from OpenCV: `picture[..., ::-1]`); or
                the path of a file.
        """
        if not isinstance(picture, np.ndarray):
            picture = read_picture(picture)
        images, frame = self.letterbox(picture)
        return self.instances(self.forward(images), frame)

    def letterbox(self, picture: np.ndarray) -> tuple[np.ndarray, Frame]:
        """Make a picture the model's input."""
        return letterbox(picture, self.info)

    def forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the model alone: `boxes`, `scores`, `labels` and, where it has them, `masks`."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, {"images": images}), strict=True))

    def instances(self, outputs: Mapping[str, np.ndarray], frame: Frame) -> list[Instance]:
        """Turn the model's outputs for one picture into its instances."""
        return to_instances({name: each[0] for name, each in outputs.items()}, frame, self.info, self.score)


def letterbox(picture: np.ndarray, info: ModelInfo) -> tuple[np.ndarray, Frame]:
    """Fit a picture into the model's size and pad it below and to the right.

    Args:
        picture: (height, width, 3), bytes, RGB.
        info: of the model.

    Returns:
        (1, 3, H, W), float32, and how the picture lies in it.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(f"Expected (height, width, 3) bytes, found {picture.shape} {picture.dtype}.")
    height, width = picture.shape[:2]
    rows, columns = _fitted(height, width, info)
    canvas_size = [-(-side // info.stride) * info.stride for side in (rows, columns)]
    canvas = np.empty((1, 3, *(canvas_size if info.dynamic else info.size)), np.float32)
    resized = picture if (rows, columns) == (height, width) else resize(picture, rows, columns)
    for channel, fill in enumerate(info.pad):
        plane = canvas[0, channel]
        plane[:rows, :columns] = resized[..., channel]
        plane[rows:] = fill
        plane[:rows, columns:] = fill
    return canvas, Frame(height, width, (columns / width, rows / height))


def _fitted(height: int, width: int, info: ModelInfo) -> tuple[int, int]:
    """Give the height and width that a picture takes of the input."""
    rows, columns = info.size
    if not info.keep_ratio:
        return rows, columns
    if info.dynamic:  # upright or lying, as mmdet's Resize fits it
        scale = min(max(info.size) / max(height, width), min(info.size) / min(height, width))
    else:
        scale = min(rows / height, columns / width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resize by linear interpolation between the centres of pixels, as OpenCV does and if there with it."""
    opencv = _optional("cv2")
    if opencv is not None:
        return opencv.resize(
            np.ascontiguousarray(picture), (columns, rows), interpolation=opencv.INTER_LINEAR
        )
    height, width = picture.shape[:2]
    down, across = _Taps.along(rows, height, height / rows), _Taps.along(columns, width, width / columns)
    picture = picture.astype(np.float32)
    between = down.between(picture, down.share[:, None, None])
    between = across.between(between.swapaxes(0, 1), across.share[:, None, None]).swapaxes(0, 1)
    return (between + 0.5).astype(np.uint8)


def to_instances(
    outputs: Mapping[str, np.ndarray], frame: Frame, info: ModelInfo, score: float
) -> list[Instance]:
    """Turn what the model gives of one picture, without the dimension of the batch, into instances.

    Args:
        outputs: boxes (N, 4), scores (N,), labels (N,) and, where there are any, masks (N, h, w); the best
            come first.
        frame: how the picture lies in the input.
        info: of the model.
        score: what scores must exceed.
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
    """Between which cell and the next the pixels along a side lie, and how far. Both (pixels,)."""

    first: np.ndarray
    share: np.ndarray

    @classmethod
    def along(cls, pixels: int, cells: int, scale: float) -> "_Taps":
        """Find the centres of pixels, each `scale` cells long, between the centres of cells."""
        place = ((np.arange(pixels, dtype=np.float32) + 0.5) * scale - 0.5).clip(0, cells - 1)
        first = np.minimum(place.astype(np.int64), max(cells - 2, 0))
        return cls(first, (place - first).astype(np.float32))

    def part(self, start: int, stop: int) -> tuple["_Taps", slice]:
        """Give those of some pixels, and which cells they need; they count from the first of these."""
        first = self.first[start:stop]
        return _Taps(first - first[0], self.share[start:stop]), slice(first[0], first[-1] + 2)

    def between(self, cells: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Interpolate along the first dimension; `share` is shaped to fit."""
        if len(cells) == 1:
            return cells[self.first]
        values = (cells[1:] - cells[:-1]).take(self.first, axis=0)
        values *= share
        values += cells.take(self.first, axis=0)
        return values


def enlarge(masks: np.ndarray, boxes: np.ndarray, frame: Frame, info: ModelInfo) -> np.ndarray:
    """Enlarge masks to the picture, and only inside their boxes: linearly between the centres of cells.

    Args:
        masks: (N, h, w), logits.
        boxes: (N, 4), in the picture.
        frame: how the picture lies in the input.
        info: of the model.

    Returns:
        (N, height, width) of the picture, booleans.
    """
    rows = _Taps.along(frame.height, masks.shape[1], frame.scale[1] / info.mask_stride)
    columns = _Taps.along(frame.width, masks.shape[2], frame.scale[0] / info.mask_stride)
    enlarged = np.zeros((len(masks), frame.height, frame.width), bool)
    edges = np.ceil(boxes - 0.5).astype(int)  # the first pixels whose centres are in the box and behind it
    for drawn, mask, (left, top, right, bottom) in zip(enlarged, masks, edges.tolist(), strict=True):
        if left < right and top < bottom:
            down, cell_rows = rows.part(top, bottom)
            across, cell_columns = columns.part(left, right)
            shares = share_of(mask[cell_rows, cell_columns])
            wide = across.between(np.ascontiguousarray(shares.T), across.share[:, None]).T
            values = down.between(np.ascontiguousarray(wide), down.share[:, None])
            np.greater(values, info.mask_threshold, out=drawn[top:bottom, left:right])
    return enlarged


def share_of(logits: np.ndarray) -> np.ndarray:
    """Give the sigmoid of logits; written like this it cannot overflow."""
    return 0.5 * np.tanh(0.5 * logits) + 0.5


def read_picture(path: str | Path) -> np.ndarray:
    """Read a file as (height, width, 3), bytes, RGB, turned as its EXIF data says."""
    if not Path(path).is_file():
        raise ValueError(f"There is no picture {path}.")
    opencv = _optional("cv2")
    if opencv is not None:
        picture = opencv.imread(str(path), opencv.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"{path} is not a picture that can be read.")
        return np.ascontiguousarray(picture[..., ::-1])
    image, operations = _pillow()
    try:
        with image.open(path) as opened:
            return np.asarray(operations.exif_transpose(opened).convert("RGB"))
    except OSError as error:
        raise ValueError(f"{path} is not a picture that can be read.") from error


def draw(picture: np.ndarray, instances: Sequence[Instance]) -> np.ndarray:
    """Draw the masks of instances, or where they have none their boxes, the surest uppermost."""
    drawn = picture.astype(np.float32)
    for place, instance in reversed(list(enumerate(instances))):
        colour = np.array([(37 * place + 41 * shift) % 256 for shift in (1, 3, 5)], np.float32)
        where = _outline(instance.box, picture.shape[:2]) if instance.mask is None else instance.mask
        drawn[where] = (drawn[where] + colour) / 2
    return drawn.astype(np.uint8)


def _outline(box: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Mark the pixels of a box's edge, (height, width)."""
    left, top, right, bottom = np.ceil(box - 0.5).astype(int)
    marked = np.zeros(size, bool)
    marked[top:bottom, left:right] = True
    marked[top + 2 : bottom - 2, left + 2 : right - 2] = False
    return marked


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write (height, width, 3), bytes, RGB to a file."""
    opencv = _optional("cv2")
    image: Any = _pillow()[0] if opencv is None else None
    try:
        if opencv is None:
            image.fromarray(picture).save(path)
        elif not opencv.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1])):
            raise OSError("is there such a folder?")
    except Exception as error:  # what an ending that is no picture's raises is of another type in each
        raise ValueError(f"{path} cannot be written: {error}") from error


def _optional(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        return None


def _pillow() -> tuple[Any, Any]:
    image, operations = _optional("PIL.Image"), _optional("PIL.ImageOps")
    if image is None:
        raise ValueError("Reading and writing files needs OpenCV or Pillow: `pip install pillow`.")
    return image, operations


def main(argv: Sequence[str] | None = None) -> int:
    """Print the instances of a picture, and draw them if asked to."""
    parser = argparse.ArgumentParser(description="Find the instances of a picture with an exported student.")
    parser.add_argument("model", help="an .onnx file that `ibkd export` wrote")
    parser.add_argument("picture", help="a picture's file")
    parser.add_argument("--score", type=float, default=0.3, help="what scores must exceed (default: 0.3)")
    parser.add_argument("--out", help="draw the instances into this file")
    args = parser.parse_args(argv)
    try:
        picture = read_picture(args.picture)
        instances = InstanceSegmenter(args.model, score=args.score)(picture)
        if args.out:
            write_picture(args.out, draw(picture, instances))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for each in instances:
        print(f"{each.score:.3f}  {each.name}  ({', '.join(f'{side:.1f}' for side in each.box)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
