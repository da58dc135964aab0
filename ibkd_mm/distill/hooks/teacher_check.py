"""Whether a teacher is worth learning from, asked before the first step."""

import copy
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from pycocotools.coco import COCO

from ibkd_mm.distill.algorithm import FrozenTeacherDistill
from ibkd_mm.distill.draws import drawn_aside
from ibkd_mm.engine.wrappers import unwrapped
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Score the teacher on some pictures of the validation, by the very path that distillation takes.

    It is given the student's batches, re-normalised. A teacher of the wrong classes, weights or normalisation
    stops the run before it has cost anything; one that is no better than the student is warned of.

    Acts before_train, not where a training is resumed.

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
        model = unwrapped(runner.model)
        if runner.iter or not isinstance(model, FrozenTeacherDistill):
            return
        metrics = self._score(runner, model)
        if self.metric not in metrics:
            raise UserError(
                f"TeacherCheckHook.metric: the validation gives {', '.join(metrics)}; found '{self.metric}'."
            )
        score = metrics[self.metric]
        said = f"The teacher's {self.metric} on {self.images} validation pictures is {score:.3f}"
        if score < self.least:
            raise UserError(
                f"{said}, and at least {self.least} is wanted (TeacherCheckHook.least): nothing is to be "
                "learnt from it. Are its weights (teacher_ckpt), its classes and their order, and its own "
                "data_preprocessor those that it was trained with?"
            )
        runner.logger.info(f"{said}.")
        if self.baseline is not None and score <= self.baseline:
            runner.logger.warning(
                f"{said}, no more than the student reaches without it ({self.baseline}): a teacher this weak "
                "is likely to cost more than it brings."
            )

    @torch.no_grad()
    @drawn_aside()
    def _score(self, runner: Runner, model: FrozenTeacherDistill) -> dict[str, float]:
        loader = self._loader(runner)
        evaluator = Evaluator(copy.deepcopy(runner.cfg.val_evaluator))
        evaluator.dataset_meta = loader.dataset.metainfo
        _restrict(evaluator, loader.dataset)
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            predicted = model.frozen.predict(data["inputs"], data["data_samples"])
            evaluator.process(data_samples=predicted, data_batch=data)
        return evaluator.evaluate(len(loader.dataset))

    def _loader(self, runner: Runner) -> Any:
        settings = copy.deepcopy(runner.cfg.val_dataloader)
        settings.dataset.indices = self.images
        settings.num_workers, settings.persistent_workers = 0, False
        settings.pop("prefetch_factor", None)
        return runner.build_dataloader(settings)


def _restrict(evaluator: Evaluator, dataset: BaseDataset) -> None:
    """Let COCO's metrics ask for the pictures of the data set alone, and not for all of the file's."""
    chosen = {dataset.get_data_info(index).get("img_id") for index in range(len(dataset))}
    for metric in evaluator.metrics:
        whole = getattr(metric, "_coco_api", None)
        if whole is not None:
            part = COCO()
            part.dataset = {
                **whole.dataset,
                "images": [each for each in whole.dataset["images"] if each["id"] in chosen],
                "annotations": [each for each in whole.dataset["annotations"] if each["image_id"] in chosen],
            }
            part.createIndex()
            metric._coco_api = type(whole)()
            metric._coco_api.__dict__.update(part.__dict__)
