"""The teacher: built from its config, frozen, and run on the student's batches, renormalised."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import torch
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ibkd_mm.config.load import resolve_model
from ibkd_mm.config.walk import DROP, changed
from ibkd_mm.distill.recorders import StopForward
from ibkd_mm.engine.checkpoint.load import checkpoint_classes, load_weights
from ibkd_mm.engine.checkpoint.state_dict_match import load_all_weights
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS
from ibkd_mm.stack.internals import Normalisation, read_normalisation

TeacherLike: TypeAlias = str | Mapping[str, Any] | BaseModel


def build_teacher(teacher: TeacherLike, checkpoint: str | None) -> BaseModel:
    """Build a teacher, load its weights and freeze it; arguments are those of `FrozenTeacherDistill`."""
    if not isinstance(teacher, BaseModel):
        reference = resolve_model(teacher, checkpoint)
        checkpoint = reference.checkpoint
        with_init_cfg = checkpoint is None  # else it would download weights that the checkpoint replaces

        def without_init_cfg(value: Any, key: Any) -> Any:
            return DROP if key in ("init_cfg", "pretrained") and not with_init_cfg else value

        with DefaultScope.overwrite_default_scope(reference.scope):
            teacher = MODELS.build(ConfigDict(changed(dict(reference.settings), without_init_cfg)))
        if checkpoint is None and isinstance(teacher, BaseModel):
            teacher.init_weights()
            print_log(
                "The teacher has no checkpoint (teacher_ckpt): its weights come from its init_cfg, and are "
                "random without one.",
                "current",
                logging.WARNING,
            )
    if not isinstance(teacher, BaseModel):
        raise UserError(f"Expected a teacher that is an mmengine model, found {type(teacher).__name__}.")
    if checkpoint is not None:
        _load(teacher, str(checkpoint))
    return teacher.requires_grad_(False).eval()


def _load(teacher: Any, checkpoint: str) -> None:
    try:
        loaded = load_weights(checkpoint)
    except UserError as error:
        raise UserError(f"The teacher's weights (teacher_ckpt): {error}") from error
    teacher.trained_classes = checkpoint_classes(loaded)
    problem = f"The teacher's checkpoint {checkpoint} does not fit its config ({type(teacher).__name__})"
    load_all_weights(teacher, loaded["state_dict"], problem)
    print_log(f"Teacher: {type(teacher).__name__} with the weights of {checkpoint}", "current")


def check_class_order(teacher: nn.Module, classes: Sequence[str] | None) -> None:
    """Refuse a teacher with other classes than the dataset, or in another order, if both are known."""
    trained = getattr(teacher, "trained_classes", ())
    if classes and trained and tuple(classes) != tuple(trained):
        raise UserError(
            f"The teacher's checkpoint was trained on the classes {', '.join(trained[:5])}..., and the "
            f"training set has {', '.join(classes[:5])}...: they must be the same, in the same order. Name "
            "the dataset's classes in metainfo in that order, or distil feature maps alone "
            "(default_hooks.teacher_check=None)."
        )


class NullTeacher(BaseModel):
    """The teacher of a distillation from a cache: it never runs."""

    def forward(self, *_: Any, **__: Any) -> Any:
        """Return nothing."""


class FrozenTeacher:
    """Runs a teacher on batches of a student's preprocessor.

    Not a module, so that no state dict or optimizer contains it.
    """

    def __init__(self, model: BaseModel, student: nn.Module) -> None:
        self.model = model
        for module in model.modules():
            if hasattr(module, "inplace"):  # it would overwrite the output that was recorded before it
                module.inplace = False
        self.renormalise = Renormaliser(student, model.data_preprocessor)

    @torch.no_grad()
    def record(self, inputs: Tensor, samples: Sequence[Any] | None) -> None:
        """Run it as far as its recorders need."""
        if not isinstance(self.model, NullTeacher):
            with suppress(StopForward):
                self.model(self.renormalise(inputs, samples), samples, mode="tensor")

    @torch.no_grad()
    def outputs(self, inputs: Tensor, samples: Sequence[Any]) -> Any:
        """Run the whole network and return its outputs."""
        return self.model(self.renormalise(inputs, samples), samples, mode="tensor")

    @torch.no_grad()
    def predict(self, inputs: Tensor, samples: Sequence[Any]) -> list[Any]:
        """Predict as in the teacher's own test."""
        return self.model(self.renormalise(inputs, samples), samples, mode="predict")


class Renormaliser:
    """Converts the output of the student's data preprocessor into that of the teacher's.

    Mean, standard deviation, channel order and pad value become the teacher's. Sizes stay the student's, so
    that feature maps of both cover the same area.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.student, self.teacher = student, teacher
        own, other = read_normalisation(student), read_normalisation(teacher)
        if own.pad_divisor % other.pad_divisor:
            raise UserError(
                f"The teacher takes images whose sides are multiples of {other.pad_divisor}; the student's "
                f"batches are padded to multiples of {own.pad_divisor}. Set the student's "
                f"data_preprocessor.pad_size_divisor={other.pad_divisor}."
            )
        self.swap_channels = own.swaps_channels != other.swaps_channels

    def __call__(self, inputs: Tensor, samples: Sequence[Any] | None) -> Tensor:
        """Renormalise (B, 3, H, W); what lies beyond the `img_shape` of samples, if known, is padding."""
        own, other = read_normalisation(self.student), read_normalisation(self.teacher)
        mean, std = _statistics(own, inputs)
        pixels = inputs * std + mean
        if self.swap_channels:
            pixels = pixels.flip(1)
        mean, std = _statistics(other, inputs)
        pixels = (pixels - mean) / std
        padding = _padding(inputs, samples)
        return pixels if padding is None else torch.where(padding, other.pad_value, pixels)


def _statistics(normalisation: Normalisation, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation as (1, C, 1, 1); 0 and 1 without normalisation."""
    if normalisation.mean is None or normalisation.std is None:
        return like.new_zeros(1), like.new_ones(1)
    return tuple(part.to(like).reshape(1, -1, 1, 1) for part in normalisation[:2])  # type: ignore[return-value, union-attr]


def _padding(inputs: Tensor, samples: Sequence[Any] | None) -> Tensor | None:
    """Mark the pixels that were padded, at the bottom and on the right: (B, 1, H, W)."""
    metas = [getattr(sample, "metainfo", {}) for sample in samples or ()]
    if not metas or not all("img_shape" in meta for meta in metas):
        return None
    shapes = [meta["img_shape"][:2] for meta in metas]
    heights, widths = torch.tensor(shapes, device=inputs.device).T[..., None]
    below = torch.arange(inputs.shape[2], device=inputs.device) >= heights
    beside = torch.arange(inputs.shape[3], device=inputs.device) >= widths
    return (below[:, :, None] | beside[:, None, :])[:, None]
