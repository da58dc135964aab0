"""Whether a teacher is worth learning from, asked before the first step."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.distill.algorithm import FrozenTeacherDistill
from ibkd_mm.distill.hooks.schedule import check_no_copies
from ibkd_mm.distill.teacher import NullTeacher, check_order
from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError
from ibkd_mm.methods.ibkd import InstanceDistillLoss
from ibkd_mm.registry import HOOKS
from ibkd_mm.utils.rng import preserve_rng_state


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Score the teacher on some pictures of the validation, by the very path that distillation takes.

    It is given the student's batches, re-normalised. A teacher of the wrong classes, weights or normalisation
    stops the run before it has cost anything; one that is no better than the student is warned of. It is not
    scored where nothing is validated. Of a teacher of other classes maps alone can be distilled, without this
    hook.

    Acts before_train, not where a training is resumed or the teacher does not run.

    Args:
        images: how many pictures, the first of the validation set.
        metric: by which the teacher is judged, as the validation's evaluator names it.
        least: what it must reach.
        baseline: what the student is known to reach without a teacher, if known.
    """

    def __init__(
        self,
        images: int = 50,
        metric: str = "coco/segm_mAP",
        least: float = 0.02,
        baseline: float | None = None,
    ) -> None:
        self.images, self.metric, self.least, self.baseline = images, metric, least, baseline

    def before_train(self, runner: Runner) -> None:
        """Score the teacher and say what came of it."""
        model = unwrap_model(runner.model)
        if not isinstance(model, FrozenTeacherDistill) or isinstance(model.teacher, NullTeacher):
            return
        check_no_copies(runner)
        if runner.iter:
            return
        _check_order(runner, model)
        if not runner.cfg.get("val_dataloader"):
            runner.logger.warning("The teacher is not scored: there is no val_dataloader.")
            return
        metrics, count = self._score(runner, model)
        if self.metric not in metrics:
            raise UserError(
                f"TeacherCheckHook.metric: the validation gives {', '.join(metrics)}; found '{self.metric}'."
            )
        score = metrics[self.metric]
        said = f"The teacher's {self.metric} on {count} validation pictures is {score:.3f}"
        if score < 0:
            raise UserError(f"{said}: there is nothing in them. Set TeacherCheckHook.images to more.")
        if score < self.least:
            raise UserError(
                f"{said}, and at least {self.least} is wanted (TeacherCheckHook.least): nothing is to be "
                "learnt from it. Are its weights (teacher_ckpt), its classes and their order, and its own "
                "data_preprocessor those that it was trained with? To distil the maps of one that knows "
                "other classes, set default_hooks.teacher_check=None."
            )
        runner.logger.info(f"{said}.")
        if self.baseline is not None and score <= self.baseline:
            runner.logger.warning(
                f"{said}, no more than the student reaches without it ({self.baseline}): a teacher this weak "
                "is likely to cost more than it brings."
            )

    @torch.no_grad()
    @preserve_rng_state()
    def _score(self, runner: Runner, model: FrozenTeacherDistill) -> tuple[dict[str, float], int]:
        loader = self._loader(runner)
        with TemporaryDirectory() as folder:
            evaluator = Evaluator(_for_these(runner.cfg.val_evaluator, loader.dataset, Path(folder)))
        evaluator.dataset_meta = loader.dataset.metainfo
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            with runner.optim_wrapper.optim_context(model):  # in the precision that it will teach in
                predicted = model.frozen.predict(data["inputs"], data["data_samples"])
            _check_known(predicted, loader.dataset.metainfo.get("classes"))
            evaluator.process(data_samples=predicted, data_batch=data)
        return evaluator.evaluate(len(loader.dataset)), len(loader.dataset)

    def _loader(self, runner: Runner) -> Any:
        settings = copy.deepcopy(runner.cfg.val_dataloader)
        settings.dataset.indices = self.images
        settings.num_workers, settings.persistent_workers = 0, False
        settings.pop("prefetch_factor", None)
        return runner.build_dataloader(settings)


def _for_these(evaluator: Any, dataset: BaseDataset, folder: Path) -> Any:
    """Give the metrics an annotation file of the data set's pictures: they ask for all that are in one."""
    evaluator = copy.deepcopy(evaluator)
    chosen = {dataset.get_data_info(index).get("img_id") for index in range(len(dataset))}
    for number, metric in enumerate(evaluator if isinstance(evaluator, list) else [evaluator]):
        if metric.get("ann_file"):
            whole = json.loads(Path(metric["ann_file"]).read_text())
            for part, key in (("images", "id"), ("annotations", "image_id")):
                whole[part] = [each for each in whole[part] if each[key] in chosen]
            metric["ann_file"] = str(folder / f"{number}.json")
            Path(metric["ann_file"]).write_text(json.dumps(whole))
    return evaluator


def _check_order(runner: Runner, model: FrozenTeacherDistill) -> None:
    """Refuse a teacher of other classes, or of another order, where what it says of them counts."""
    distiller = model.distiller
    of_classes = any(isinstance(one, InstanceDistillLoss) for one in distiller.counting)
    if of_classes or distiller.extra_targets is not None:
        check_order(model.teacher, runner.train_dataloader.dataset.metainfo.get("classes"))


def _check_known(predicted: list[Any], classes: Sequence[str] | None) -> None:
    """Refuse a teacher that finds classes which the data do not have: a metric would fail on them."""
    labels = [each.pred_instances.labels for each in predicted if "pred_instances" in each]
    most = max((int(each.max()) for each in labels if len(each)), default=-1)
    if classes and most >= len(classes):
        raise UserError(
            f"The teacher finds class number {most}, and the validation set has {len(classes)} classes "
            f"({', '.join(classes[:5])}...). Give one that was trained on these, in this order; to distil "
            "the maps of another one, set default_hooks.teacher_check=None."
        )
