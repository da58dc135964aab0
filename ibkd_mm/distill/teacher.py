"""The teacher: built from its config, given its weights, frozen, run on the student's batches."""

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
from ibkd_mm.distill.renormalise import Renormaliser
from ibkd_mm.engine.checkpoint.load import checkpoint_classes, load_weights
from ibkd_mm.engine.checkpoint.state_dict_match import load_all_weights
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS

TeacherLike: TypeAlias = str | Mapping[str, Any] | BaseModel


def build_teacher(teacher: TeacherLike, checkpoint: str | None) -> BaseModel:
    """Build a teacher, load its weights and freeze it.

    Args:
        teacher: a config's path, one inside a package (`mmdet::...`), a model's settings, or a model.
        checkpoint: path, URL or `ibkd_mm::NAME`; else what the config's `load_from` names.
    """
    if not isinstance(teacher, BaseModel):
        reference = resolve_model(teacher, checkpoint)
        checkpoint = reference.checkpoint
        teacher = _build(reference.settings, reference.scope, with_init_cfg=checkpoint is None)
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
    teacher.requires_grad_(False)
    return teacher.eval()


def _build(model: Mapping[str, Any], scope: str | None, *, with_init_cfg: bool) -> Any:
    """Build a model; without init_cfg, which would download weights that the checkpoint replaces."""

    def without_init_cfg(value: Any, key: Any) -> Any:
        return DROP if key in ("init_cfg", "pretrained") and not with_init_cfg else value

    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(ConfigDict(changed(dict(model), without_init_cfg)))


def _load(teacher: Any, checkpoint: str) -> None:
    try:
        loaded = load_weights(checkpoint)
    except UserError as error:
        raise UserError(f"The teacher's weights (teacher_ckpt): {error}") from error
    teacher.trained_classes = checkpoint_classes(loaded)
    problem = f"The teacher's checkpoint {checkpoint} does not match its config ({type(teacher).__name__})"
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
    """Runs a teacher on a student's batches. Not a module, so that no state dict or optimizer contains it.

    Args:
        model: the teacher.
        student: data preprocessor of the student.
    """

    def __init__(self, model: BaseModel, student: nn.Module) -> None:
        self.model = model
        for module in model.modules():
            if hasattr(module, "inplace"):  # it would change what was recorded before it
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
