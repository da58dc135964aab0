"""One export: its settings, what is exported, and what the check of the file found."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from mmengine.config import Config

from ibkd_mm.deploy.formats import to_entries
from ibkd_mm.deploy.runtime import ModelInfo
from ibkd_mm.distill.interfaces import ExportGraph
from ibkd_mm.errors import UserError

_CHECK_IMAGES = {"fp32": 16, "fp16": 16, "int8": 200}


@dataclass(frozen=True)
class ExportSettings:
    """How a model is exported.

    Args:
        size: height and width; None for those of the config's test pipeline.
        dynamic: leave batch size, height and width dynamic.
        half: compute the network in half precision.
        int8: quantise, calibrated on this number of training images; 0 for no quantisation.
        max_instances: number of instances per image; None for 100, or the config's limit if that is lower.
        check: compare the file with the model.
        check_images: number of images of the check; None for 16, or 200 with int8.
        runtime: write `runtime.py` beside the file.
    """

    size: tuple[int, int] | None = None
    batch: int = 1
    dynamic: bool = False
    half: bool = False
    int8: int = 0
    max_instances: int | None = None
    check: bool = True
    check_images: int | None = None
    runtime: bool = False

    def __post_init__(self) -> None:
        if self.half and self.int8:
            raise UserError("--half and --int8 are two precisions for one file. Choose one of them.")
        if self.dynamic and self.batch != 1:
            raise UserError("--dynamic makes the batch size dynamic too. Remove --batch.")
        for name in ("batch", "max_instances", "check_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"Expected --{name.replace('_', '-')} of at least 1, found {value}.")
        if self.int8 < 0:
            raise UserError(f"Expected --int8 of at least 0 images, found {self.int8}.")

    @property
    def precision(self) -> str:
        """As it is written in the metadata."""
        return "int8" if self.int8 else "fp16" if self.half else "fp32"


@dataclass(frozen=True)
class ExportTask:
    """What is exported: a graph in float32, with fixed `lengths` of the named axes that are not dynamic.

    `config` is None if the graph is not about images.
    """

    graph: ExportGraph
    lengths: dict[str, int]
    metadata: dict[str, Any]
    settings: ExportSettings
    config: Config

    @cached_property
    def info(self) -> ModelInfo:
        """The metadata as `InstanceSegmenter` reads them."""
        return ModelInfo.read(to_entries(self.metadata))

    @property
    def check_images(self) -> int:
        """Number of images, or of example inputs, that the file is checked on."""
        return self.settings.check_images or _CHECK_IMAGES[self.settings.precision]


class CheckResult(Protocol):
    """What a check measured; its text lists the figures beside what is allowed."""

    @property
    def passed(self) -> bool:
        """Whether the file is as good as it must be."""


@dataclass(frozen=True)
class Checked:
    """The result of a check, and the number and source of the images that it used."""

    result: CheckResult
    images: int
    source: str

    def __str__(self) -> str:
        return f"Checked on {self.images} {self.source}:\n{self.result}"
