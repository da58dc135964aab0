"""The teacher: built from wherever its config is, given its weights, never trained."""

import copy
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

from ibkd_mm.config.read import read_config
from ibkd_mm.distill.recorders import StopForward
from ibkd_mm.distill.renormalise import Renormaliser
from ibkd_mm.engine.checkpoint.load import checkpoint_classes, load_weights
from ibkd_mm.engine.checkpoint.state_dict_match import load_matching_weights
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS

TeacherLike: TypeAlias = str | Mapping[str, Any] | BaseModel


def build_teacher(teacher: TeacherLike, checkpoint: str | None) -> BaseModel:
    """Build a teacher, load its weights and freeze it.

    Args:
        teacher: a config's path, one inside a package (`mmdet::...`), a model's dict, or a model.
        checkpoint: its weights, a path, URL or `ibkd_mm::NAME`; else those that the config's `load_from`
            names.
    """
    if not isinstance(teacher, BaseModel):
        described, checkpoint, scope = describe(teacher, checkpoint)
        teacher = _build(described, scope, bare=checkpoint is not None)
        if checkpoint is None and isinstance(teacher, BaseModel):
            teacher.init_weights()
            print_log(
                "The teacher has no checkpoint (teacher_ckpt): its weights are what its init_cfg says, and "
                "random where that says nothing.",
                "current",
                logging.WARNING,
            )
    if not isinstance(teacher, BaseModel):
        raise UserError(f"Expected a teacher that is an mmengine model, found {type(teacher).__name__}.")
    if checkpoint is not None:
        _load(teacher, str(checkpoint))
    teacher.requires_grad_(False)
    return teacher.eval()


def describe(
    teacher: str | Mapping[str, Any], checkpoint: str | None
) -> tuple[Mapping[str, Any], str | None, str | None]:
    """Give a teacher's model, its weights and the scope of its names, from wherever they are written."""
    if not isinstance(teacher, str):
        return teacher, checkpoint, None
    config = read_config(teacher)
    return config.model, checkpoint or config.get("load_from"), config.get("default_scope")


def _build(model: Mapping[str, Any], scope: str | None, *, bare: bool) -> Any:
    described = ConfigDict(copy.deepcopy(dict(model)))
    if bare:
        _forget_weights(described)
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(described)


def _forget_weights(described: Any) -> None:
    """Take out what would fetch weights that the checkpoint brings anyway."""
    if isinstance(described, dict):
        described.pop("init_cfg", None)
        described.pop("pretrained", None)
    for part in described.values() if isinstance(described, dict) else described:
        if isinstance(part, dict | list):
            _forget_weights(part)


def _load(teacher: Any, checkpoint: str) -> None:
    try:
        loaded = load_weights(checkpoint)
    except UserError as error:
        raise UserError(f"The teacher's weights (teacher_ckpt): {error}") from error
    teacher.trained_classes = checkpoint_classes(loaded)
    mismatch = load_matching_weights(teacher, loaded["state_dict"])
    if mismatch:
        raise UserError(
            f"The teacher's checkpoint {checkpoint} does not fit its config "
            f"({type(teacher).__name__}):\n{mismatch}"
        )
    print_log(f"Teacher: {type(teacher).__name__} with the weights of {checkpoint}", "current")


def check_order(teacher: BaseModel, classes: Sequence[str] | None) -> None:
    """Refuse a teacher of other classes than the data's, or of another order, as far as both are known."""
    trained = getattr(teacher, "trained_classes", ())
    if classes and trained and tuple(classes) != tuple(trained):
        raise UserError(
            f"The teacher's checkpoint was trained on the classes {', '.join(trained[:5])}..., and the "
            f"training set has {', '.join(classes[:5])}...: they must be the same, in the same order. Name "
            "the data's classes in metainfo in that order, or distil maps alone (default_hooks.teacher_check=None)."
        )


class NullTeacher(BaseModel):
    """Stands for a teacher that does not run, since what it saw is read from a cache."""

    def forward(self, *_: Any, **__: Any) -> Any:
        """Say nothing."""


class FrozenTeacher:
    """Runs a teacher on a student's batches. No module, so that no state dict or optimizer finds it.

    Args:
        model: the teacher.
        student: data preprocessor of the student.
    """

    def __init__(self, model: BaseModel, student: nn.Module) -> None:
        self.model = model
        self.renormalise = Renormaliser(student, model.data_preprocessor)

    @torch.no_grad()
    def forward(self, inputs: Tensor, samples: Sequence[Any]) -> None:
        """Run it as far as its recorders ask; they hold what it said."""
        if isinstance(self.model, NullTeacher):
            return
        with suppress(StopForward):
            self.model(self.renormalise(inputs, samples), samples, mode="tensor")

    @torch.no_grad()
    def outputs(self, inputs: Tensor, samples: Sequence[Any]) -> Any:
        """Run it to its end and give what it puts out."""
        return self.model(self.renormalise(inputs, samples), samples, mode="tensor")

    @torch.no_grad()
    def predict(self, inputs: Tensor, samples: Sequence[Any]) -> list[Any]:
        """Let it predict, as its own test would."""
        return self.model(self.renormalise(inputs, samples), samples, mode="predict")
