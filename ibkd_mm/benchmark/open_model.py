"""Check a benchmark's arguments; open its models: exported files, and configs with or without weights."""

from pathlib import Path

import cv2
import numpy as np
import torch

from ibkd_mm.benchmark.benchmark_model import BenchmarkModel, BenchmarkSettings, Image
from ibkd_mm.benchmark.exported import open_exported
from ibkd_mm.benchmark.onnx_model import load_onnx
from ibkd_mm.benchmark.openvino_model import load_openvino
from ibkd_mm.benchmark.pytorch_model import open_detector
from ibkd_mm.config.load import find_config, prepare_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.datasets.shapes.build import ShapesSpec
from ibkd_mm.engine import load_weights
from ibkd_mm.engine.checkpoint.sources import check_exists
from ibkd_mm.errors import UserError, did_you_mean

RUNTIME_PACKAGES = {".onnx": "onnxruntime", ".xml": "openvino"}  # that run exported files
_LOADERS = {".onnx": load_onnx, ".xml": load_openvino}
_CONFIG_SUFFIXES = (".py", ".json", ".yaml", ".yml")
_WEIGHT_SUFFIXES = (".pth", ".pt", ".safetensors")


def check_arguments(settings: BenchmarkSettings, rounds: int, warmup: int, out: str | None) -> None:
    """Raise UserError for numbers below their minimum, a missing GPU, or an output that cannot be written."""
    minimums = {
        "--batch": (settings.batch, 1),
        "--threads": (settings.threads, 1),
        "--rounds": (rounds, 1),
        "--warmup": (warmup, 0),
        "--size": (min(settings.size or (1,)), 1),
    }
    for name, (found, minimum) in minimums.items():
        if found < minimum:
            raise UserError(f"Expected {name} of {minimum} or more, found {found}.")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda needs a GPU that PyTorch can use, and there is none. `ibkd doctor` shows why."
        )
    if out is not None and (Path(out).suffix != ".json" or not Path(out).absolute().parent.is_dir()):
        raise UserError(
            f"--out writes JSON: expected a name ending in .json in a folder that exists, found {out}."
        )


def find_model(model: str) -> tuple[Path, str | None]:
    """Find the file of a model, and its weights if it is a config or `CONFIG,WEIGHTS`."""
    first, _, weights = model.partition(",")
    suffix = Path(first).suffix
    if suffix in _LOADERS and not weights:
        path = Path(first).expanduser()
        if not path.is_file():
            siblings = [found.name for found in path.parent.glob(f"*{path.suffix}")]
            raise UserError(f"There is no model {path}.{did_you_mean(path.name, siblings)}")
        return path, None
    if suffix in _WEIGHT_SUFFIXES:
        raise UserError(f"{first} has weights alone. Name the config that they belong to: CONFIG,{first}")
    if suffix and suffix not in _CONFIG_SUFFIXES and "::" not in first:
        raise UserError(
            f"Expected an .onnx file, an .xml file of OpenVINO, a config, or CONFIG,WEIGHTS; found {model}."
        )
    config = find_config(first)
    if weights:
        check_exists(weights)
    return config, weights or None


def open_model(model: str, image: Image, settings: BenchmarkSettings) -> BenchmarkModel:
    """Load a model and make it ready to run on an image."""
    path, weights = find_model(model)
    if path.suffix in _LOADERS:
        return open_exported(_LOADERS[path.suffix](path, settings), image, settings)
    config = prepare_config(path, None, "test")
    with user_errors(config):
        state_dict = load_weights(weights)["state_dict"] if weights else None
        return open_detector(config, state_dict, image, settings)


def read_image(file: str | None) -> Image:
    """Read an image, or draw one of shapes, 640 wide and 480 high."""
    if file is None:
        return np.ascontiguousarray(ShapesSpec(size=640).scene("val", 0).image[:480])
    if not Path(file).is_file():
        raise UserError(f"There is no image {file}.")
    image = cv2.imread(file, cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{file} is not an image that can be read.")
    return image
