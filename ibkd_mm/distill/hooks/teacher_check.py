"""Evaluate the teacher before the first step of a distillation."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.distill.algorithm import FrozenTeacherDistill
from ibkd_mm.distill.hooks.schedule import check_no_teacher_copies
from ibkd_mm.distill.teacher import NullTeacher, check_class_order
from ibkd_mm.engine.evaluate import Evaluation
from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS
from ibkd_mm.utils.rng import preserve_rng_state


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Evaluate the teacher on some validation images, on the student's renormalised batches.

    A teacher with wrong classes, weights or normalisation stops the training before the first step; one that
    is no better than the student causes a warning. It is not evaluated without a validation set. Of a teacher
    with other classes, feature maps alone can be distilled: remove this hook.

    Acts before_train, but not when a training is resumed or the teacher does not run.

    Args:
        images: number of images, the first of the validation set.
        metric: the metric that counts, as the validation's evaluator names it.
        min_score: what the teacher must reach.
        baseline: what the student reaches without a teacher, if known.
    """

    def __init__(
        self,
        images: int = 50,
        metric: str = "coco/segm_mAP",
        min_score: float = 0.02,
        baseline: float | None = None,
    ) -> None:
        self.images, self.metric, self.min_score, self.baseline = images, metric, min_score, baseline

    def before_train(self, runner: Runner) -> None:
        """Evaluate the teacher; stop or warn."""
        model = unwrap_model(runner.model)
        if not isinstance(model, FrozenTeacherDistill) or isinstance(model.teacher, NullTeacher):
            return
        check_no_teacher_copies(runner)
        if runner.iter:
            return
        needs_order = any(getattr(loss, "needs_class_order", False) for loss in model.distiller.active_losses)
        if needs_order or model.distiller.extra_targets is not None:
            check_class_order(model.teacher, runner.train_dataloader.dataset.metainfo.get("classes"))
        if not runner.cfg.get("val_dataloader"):
            runner.logger.warning("The teacher is not evaluated: there is no val_dataloader.")
            return
        metrics, count = self._evaluate(runner, model)
        if self.metric not in metrics:
            known = ", ".join(metrics)
            raise UserError(f"TeacherCheckHook.metric: the validation gives {known}; found '{self.metric}'.")
        score = metrics[self.metric]
        result = f"The teacher's {self.metric} on {count} validation images is {score:.3f}"
        if score < 0:
            raise UserError(f"{result}: they hold no instance. Set TeacherCheckHook.images to more.")
        if score < self.min_score:
            raise UserError(
                f"{result}, expected at least {self.min_score} (TeacherCheckHook.min_score). Check its "
                "weights (teacher_ckpt), its classes and their order, and that its data_preprocessor is that "
                "of its training. To distil the feature maps of a teacher with other classes, set "
                "default_hooks.teacher_check=None."
            )
        runner.logger.info(f"{result}.")
        if self.baseline is not None and score <= self.baseline:
            runner.logger.warning(
                f"{result}, no more than the student reaches without it ({self.baseline}): such a teacher is "
                "likely to cost more than it brings."
            )

    @preserve_rng_state()
    def _evaluate(self, runner: Runner, model: FrozenTeacherDistill) -> tuple[dict[str, float], int]:
        loader = copy.deepcopy(runner.cfg.val_dataloader)
        loader.dataset.indices = self.images

        def predict(inputs: Any, samples: Any) -> list[Any]:
            with runner.optim_wrapper.optim_context(model):  # in the precision of the training
                predicted = model.frozen.predict(inputs, samples)
            _check_labels(predicted, evaluation.dataset.metainfo.get("classes"))
            return predicted

        with TemporaryDirectory() as folder:
            evaluation = Evaluation(
                predict,
                model.data_preprocessor,  # type: ignore[arg-type]
                loader,
                lambda dataset: _restricted(runner.cfg.val_evaluator, dataset, Path(folder)),
            )
        for _ in evaluation:
            pass
        return evaluation.metrics(), len(evaluation.dataset)


def _restricted(evaluator: Any, dataset: Any, folder: Path) -> Any:
    """Give COCO metrics, which evaluate all images of their file, one of the dataset's images."""
    evaluator = copy.deepcopy(evaluator)
    chosen = {dataset.get_data_info(index).get("img_id") for index in range(len(dataset))}
    for number, metric in enumerate(evaluator if isinstance(evaluator, list) else [evaluator]):
        if metric.get("ann_file"):
            content = json.loads(Path(metric["ann_file"]).read_text())
            for part, key in (("images", "id"), ("annotations", "image_id")):
                content[part] = [entry for entry in content[part] if entry[key] in chosen]
            metric["ann_file"] = str(folder / f"{number}.json")
            Path(metric["ann_file"]).write_text(json.dumps(content))
    return evaluator


def _check_labels(predicted: list[Any], classes: Sequence[str] | None) -> None:
    """Refuse a teacher that predicts classes which the dataset does not have: a metric would fail on them."""
    labels = [sample.pred_instances.labels for sample in predicted if "pred_instances" in sample]
    highest = max((int(each.max()) for each in labels if len(each)), default=-1)
    if classes and highest >= len(classes):
        raise UserError(
            f"The teacher predicts class number {highest}, and the validation set has {len(classes)} classes "
            f"({', '.join(classes[:5])}...). Use a teacher trained on these, in this order; to distil the "
            "feature maps of another one, set default_hooks.teacher_check=None."
        )
