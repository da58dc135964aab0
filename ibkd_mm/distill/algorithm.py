"""The model that a distillation trains: a student, with a frozen teacher beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import is_distributed
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmrazor.models.algorithms.base import BaseAlgorithm
from mmrazor.models.utils import add_prefix
from torch import Tensor, nn

from ibkd_mm.distill.teacher import FrozenTeacher, NullTeacher, TeacherLike, build_teacher
from ibkd_mm.engine.checkpoint.state_dict_match import load_matching_weights
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS
from ibkd_mm.stack.internals import MovesCompanions, state_dict_metadata
from ibkd_mm.utils.rng import preserve_rng_state

_STUDENT, _DISTILLER = "architecture.", "distiller."
_BLANK_SIDE = 128


@MODELS.register_module()
class FrozenTeacherDistill(MovesCompanions, BaseAlgorithm):
    """Trains a student with losses against a teacher that is frozen and not part of the model.

    The teacher is in eval mode, runs without gradients and only as far as its recorders need, and sees the
    student's batch in its own normalisation. It is in no state dict, optimizer, weight average or DDP bucket.
    The `state_dict` is the plain student's; what else is trained, such as bridges, is stored beside it in the
    checkpoint (`training_only_state`). While no distillation loss counts, a step is the plain student's.

    Args:
        architecture: the student: any mmengine model.
        distiller: what is recorded and compared.
        teacher: a config's path, one inside a package, a model's settings or a model.
        teacher_ckpt: weights of the teacher; else what its config's `load_from` names.
        online: whether the teacher runs beside the student. If not, it is not even built: its predictions
            come from a cache, and `teacher` only says of which teacher that cache must be.
        calculate_student_loss: whether the student's own loss counts too.
        student_mode: 'loss', or 'tensor' for a student without labels or without a head: then only its
            network runs, and only distillation losses count.
        data_preprocessor: else the student's own.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any] | BaseModel,
        distiller: Mapping[str, Any],
        teacher: TeacherLike,
        teacher_ckpt: str | None = None,
        online: bool = True,
        calculate_student_loss: bool = True,
        student_mode: str = "loss",
        data_preprocessor: Any = None,
        init_cfg: Any = None,
    ) -> None:
        if student_mode not in ("loss", "tensor"):
            raise UserError(f"Expected model.student_mode='loss' or 'tensor', found {student_mode!r}.")
        student = MODELS.build(architecture) if isinstance(architecture, Mapping) else architecture
        # what else is built must not change the random numbers that the student is initialised with
        with preserve_rng_state():
            model = build_teacher(teacher, teacher_ckpt) if online else NullTeacher()
            super().__init__(student, data_preprocessor, init_cfg)
            self.frozen = FrozenTeacher(model, self.data_preprocessor)  # type: ignore[arg-type]
            self.student_mode = student_mode
            self.calculate_student_loss = calculate_student_loss and student_mode == "loss"
            self.distiller = MODELS.build(distiller)
            self.distiller.prepare_from_teacher(self.teacher)
            self.distiller.prepare_from_student(student)
            inputs, samples = _blank_batch(student)  # on which losses see the channels of the feature maps
            training = student.training
            with torch.no_grad(), self.distiller.teacher_recorders, self.distiller.student_recorders:
                student.eval()(inputs, samples, mode="tensor")
                self.frozen.record(inputs, samples)
            student.train(training)
            self.distiller.infer_channels()
        self.register_state_dict_post_hook(_keep_student)
        self.register_load_state_dict_pre_hook(_find_student)
        self.register_load_state_dict_post_hook(_name_as_student)

    @staticmethod
    def student_config(model: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the student's settings."""
        return model["architecture"]

    @property
    def student(self) -> BaseModel:
        """The student."""
        return self.architecture

    @property
    def teacher(self) -> BaseModel:
        """The teacher."""
        return self.frozen.model

    def init_weights(self) -> None:
        """Initialise the student as if it were alone, then the rest."""
        self.student.init_weights()
        with preserve_rng_state():
            self.distiller.init_weights()

    def loss(self, batch_inputs: Tensor, data_samples: Sequence[Any] | None = None) -> dict[str, Any]:
        """Return the student's losses and, while any counts, the distillation losses."""
        samples = None if data_samples is None else list(data_samples)
        if not self.distiller.active:
            if not self.calculate_student_loss:
                raise UserError(
                    "Nothing to train on: the student's loss is off (calculate_student_loss, student_mode), "
                    "and no distillation loss counts: see distill_losses and default_hooks.distill_schedule."
                )
            own = self.student(batch_inputs, samples, mode="loss")
            return self._with_idle_parameters(add_prefix(own, "student"))
        self.distiller.set_deliveries_override(False)
        with self.distiller.teacher_recorders, self.distiller.deliveries:
            self.frozen.record(batch_inputs, samples)
        self.distiller.consume_teacher_records()
        self.distiller.set_deliveries_override(True)
        samples = self.distiller.with_extra_targets(samples, batch_inputs)
        with self.distiller.student_recorders, self.distiller.deliveries:
            own = self.student(batch_inputs, samples, mode=self.student_mode)
        losses = add_prefix(own, "student") if self.calculate_student_loss else {}
        losses.update(add_prefix(self.distiller.compute_distill_losses(), "distill"))
        return self._with_idle_parameters(losses)

    def _with_idle_parameters(self, losses: dict[str, Any]) -> dict[str, Any]:
        """Add a loss of zero over all parameters of the distiller: DDP waits for the gradient of each."""
        trained = [parameter for parameter in self.distiller.parameters() if parameter.requires_grad]
        if is_distributed() and trained:
            losses["distill.loss_idle"] = torch.stack([0 * parameter.sum() for parameter in trained]).sum()
        return losses

    def training_only_state(self) -> dict[str, Any]:
        """Return what a resumed training needs beside the student's weights."""
        return {"distiller": self.distiller.state_dict(), "factors": dict(self.distiller.factors)}

    def load_training_only_state(self, state: Mapping[str, Any], *, with_factors: bool = False) -> None:
        """Restore what `training_only_state` returned; a training's factors come from its schedule."""
        weights = _renamed(state["distiller"], self.distiller.state_dict())
        if mismatch := load_matching_weights(self.distiller, weights):
            raise UserError(
                "The checkpoint has other losses or connectors than the config's distiller:\n"
                f"{mismatch}\nResume with the config that it was trained with, or load its weights alone: "
                "--cfg-options load_from=PATH instead of --resume."
            )
        if with_factors:
            self.distiller.factors.update(state["factors"])

    def companions(self) -> list[nn.Module]:
        """Return the teacher, which moves to the student's device and dtype."""
        return [self.teacher]


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a former checkpoint, whose bridges were connectors."""
    names = {
        name: next((key for key in own if key.endswith(name.removeprefix("connectors"))), name)
        for name in weights
        if name.startswith("connectors.") and name not in own
    }
    return {names.get(name, name): value for name, value in weights.items()}


def _keep_student(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        value = state.pop(name)
        if name.startswith(prefix + _STUDENT):
            state[prefix + name.removeprefix(prefix + _STUDENT)] = value
    metadata = state_dict_metadata(state)
    for name in [name for name in metadata if name.startswith(prefix + _STUDENT)]:
        metadata[prefix + name.removeprefix(prefix + _STUDENT)] = metadata.pop(name)


def _find_student(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + _STUDENT + name.removeprefix(prefix)] = state.pop(name)


def _name_as_student(_: nn.Module, incompatible: Any) -> None:
    """Report incompatible keys by the student's own names; the distiller's are not missing."""
    for names in incompatible:
        names[:] = [name.removeprefix(_STUDENT) for name in names if not name.startswith(_DISTILLER)]


def _blank_batch(student: nn.Module) -> tuple[Tensor, list[BaseDataElement]]:
    first = next((module for module in student.modules() if isinstance(module, nn.Conv2d)), None)
    shape = (_BLANK_SIDE, _BLANK_SIDE)
    meta = {"img_shape": shape, "ori_shape": shape, "pad_shape": shape, "batch_input_shape": shape}
    sample = BaseDataElement(metainfo={**meta, "scale_factor": (1.0, 1.0)})
    inputs = next(student.parameters()).new_zeros(1, first.in_channels if first else 3, *shape)
    return inputs, [sample]
