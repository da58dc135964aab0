"""The model that a distillation trains: a student, and a teacher that is in nobody's way."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.dist import is_distributed
from mmengine.model import BaseModel
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from torch import Tensor, nn

from ibkd_mm.distill.teacher import FrozenTeacher, NullTeacher, TeacherLike, build_teacher
from ibkd_mm.engine.checkpoint.state_dict_match import load_matching_weights
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS
from ibkd_mm.utils.rng import preserve_rng_state

_STUDENT, _BESIDE = "architecture.", "distiller."
_DRY_SIDE = 128


@MODELS.register_module()
class FrozenTeacherDistill(SingleTeacherDistill):
    """mmrazor's `SingleTeacherDistill` with a teacher that is frozen for good, and no part of the model.

    The teacher is in eval mode whole, runs without gradients and only as far as the recorders ask, and sees
    the student's batch in its own normalisation. It is in no state dict, optimizer, average or bucket. The
    `state_dict` is the plain student's; what else is trained, the connectors, stands in the checkpoint
    beside it (`training_only_state`). With nothing of the teacher counting, a step is the plain student's.

    Args:
        architecture: the student.
        distiller: what is recorded and compared.
        teacher: a config's path, one inside a package, a model's dict or a model.
        teacher_ckpt: its weights; else what its config's `load_from` names.
        online: whether it runs beside the student. If not it is not even built: what it saw is read from a
            cache, and `teacher` only says which that is to be of.
        calculate_student_loss: whether the student's own loss counts too.
        data_preprocessor: the student's own unless given.
        init_cfg: as mmengine's.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any] | BaseModel,
        distiller: Mapping[str, Any],
        teacher: TeacherLike,
        teacher_ckpt: str | None = None,
        online: bool = True,
        calculate_student_loss: bool = True,
        data_preprocessor: Any = None,
        init_cfg: Any = None,
    ) -> None:
        student = MODELS.build(architecture) if isinstance(architecture, Mapping) else architecture
        # what is built besides must not shift the draws that the student is initialised with
        with preserve_rng_state():
            model = build_teacher(teacher, teacher_ckpt) if online else NullTeacher()
            frozen = FrozenTeacher(model, student.data_preprocessor)
            object.__setattr__(self, "frozen", frozen)
            super().__init__(
                distiller=distiller,
                teacher=frozen.model,
                calculate_student_loss=calculate_student_loss,
                architecture=student,
                data_preprocessor=data_preprocessor,
                init_cfg=init_cfg,
            )
            del self._modules["teacher"]
            self._show_records()
        self.register_state_dict_post_hook(_keep_student)
        self.register_load_state_dict_pre_hook(_find_student)
        self.register_load_state_dict_post_hook(_name_as_student)

    @staticmethod
    def student_config(model: Mapping[str, Any]) -> Any:
        """Return the student's model config in that of a distillation."""
        return model["architecture"]

    @property
    def teacher(self) -> BaseModel:  # type: ignore[override]
        """The teacher."""
        return self.frozen.model

    def _show_records(self) -> None:
        """Run both once on a blank picture, so that connectors know what they connect."""
        inputs, samples = _blank(self.student)
        training = self.student.training
        with torch.no_grad(), self.distiller.teacher_recorders, self.distiller.student_recorders:
            self.student.eval()(inputs, samples, mode="tensor")
            self.frozen.forward(inputs, samples)
        self.student.train(training)
        self.distiller.show_records()

    def init_weights(self) -> None:
        """Initialise the student as if it were alone, then the rest."""
        self.student.init_weights()
        with preserve_rng_state():
            self.distiller.init_weights()

    def loss(self, batch_inputs: Tensor, data_samples: Sequence[Any] | None = None) -> dict[str, Any]:
        """Give the student's losses and, while anything of the teacher counts, those against it."""
        samples = list(data_samples or [])
        if not self.distiller.active:
            if not self.calculate_student_loss:
                raise UserError(
                    "With calculate_student_loss=False and no loss of the distiller counting, there is "
                    "nothing to train by. See distill_losses' weights and default_hooks.distill_schedule."
                )
            return self._connected(add_prefix(self.student(batch_inputs, samples, mode="loss"), "student"))
        self.distiller.set_deliveries_override(False)
        with self.distiller.teacher_recorders, self.distiller.deliveries:
            self.frozen.forward(batch_inputs, samples)
        self.distiller.consume_teacher_records()
        self.distiller.set_deliveries_override(True)
        samples = self.distiller.with_extra_targets(samples, batch_inputs)
        with self.distiller.student_recorders, self.distiller.deliveries:
            own = self.student(batch_inputs, samples, mode="loss")
        losses = add_prefix(own, "student") if self.calculate_student_loss else {}
        losses.update(add_prefix(self.distiller.compute_distill_losses(), "distill"))
        return self._connected(losses)

    def _connected(self, losses: dict[str, Any]) -> dict[str, Any]:
        """Let every connector take part in the step, with a gradient of zero: DDP waits for all of them."""
        trained = [one for one in self.distiller.parameters() if one.requires_grad]
        if is_distributed() and trained:
            losses["distill.loss_idle"] = torch.stack([0 * one.sum() for one in trained]).sum()
        return losses

    def train(self, mode: bool = True) -> "FrozenTeacherDistill":  # type: ignore[override]
        """Set the mode of what is trained; the teacher stays in eval mode."""
        nn.Module.train(self, mode)
        return self

    def training_only_state(self) -> dict[str, Any]:
        """Give what a resumed training needs beside the student's weights."""
        return {"distiller": self.distiller.state_dict(), "factors": dict(self.distiller.factors)}

    def load_training_only_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `training_only_state` gave; factors are for the config's schedule to say."""
        mismatch = load_matching_weights(self.distiller, state["distiller"])
        if mismatch:
            raise UserError(
                "The checkpoint was written with other connectors or losses than the config's distiller "
                "has:\n"
                f"{mismatch}\nGo on with the config that it was trained with, or take its weights alone: "
                "--cfg-options load_from=PATH instead of --resume."
            )

    def _apply(self, *args: Any, **kwargs: Any) -> "FrozenTeacherDistill":
        """Move the teacher along."""
        self.teacher._apply(*args, **kwargs)
        return super()._apply(*args, **kwargs)


def _keep_student(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Leave the plain student's entries, under its own names."""
    for name in [name for name in state if name.startswith(prefix)]:
        value = state.pop(name)
        if name.startswith(prefix + _STUDENT):
            state[prefix + name.removeprefix(prefix + _STUDENT)] = value
    metadata = getattr(state, "_metadata", {})
    for name in [name for name in metadata if name.startswith(prefix + _STUDENT)]:
        metadata[prefix + name.removeprefix(prefix + _STUDENT)] = metadata.pop(name)


def _find_student(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Hand the plain student's entries to the student."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + _STUDENT + name.removeprefix(prefix)] = state.pop(name)


def _name_as_student(_: nn.Module, mismatch: Any) -> None:
    """Say what does not fit by the student's own names; connectors are not missed."""
    for names in mismatch:
        names[:] = [name.removeprefix(_STUDENT) for name in names if not name.startswith(_BESIDE)]


def _blank(student: nn.Module) -> tuple[Tensor, list[DetDataSample]]:
    """Make a picture of nothing, as the student's preprocessor gives it."""
    side = _DRY_SIDE
    like = next(student.parameters())
    meta = {"img_shape": (side, side), "ori_shape": (side, side), "pad_shape": (side, side)}
    sample = DetDataSample(metainfo={**meta, "batch_input_shape": (side, side), "scale_factor": (1.0, 1.0)})
    return like.new_zeros(1, 3, side, side), [sample]
