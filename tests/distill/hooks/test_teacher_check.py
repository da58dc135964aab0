"""A teacher from which nothing is to be learnt stops the run; a weak one is warned of."""

import copy
import json
import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from ibkd_mm.datasets.shapes.build import ShapesSpec, ensure_shapes
from ibkd_mm.distill import TeacherCheckHook
from ibkd_mm.engine import ResumableRunner
from ibkd_mm.errors import UserError

CONFIGS = Path(__file__).parents[3] / "configs"
SPEC = {"preset": "easy", "train": 1, "val": 4, "size": 64}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    ensure_shapes(root, ShapesSpec(**SPEC))
    return root


@pytest.fixture
def runner(shapes: Path, distilled: Callable, caplog: pytest.LogCaptureFixture) -> Any:
    """What the hook sees of a training with four pictures to validate with."""
    config = Config.fromfile(CONFIGS / "_base_" / "datasets" / "shapes_instance.py")
    config.val_dataloader.dataset.update(data_root=str(shapes), spec=SPEC)
    config.val_dataloader.batch_size = 3
    config.val_evaluator.ann_file = str(shapes / "annotations" / "val.json")
    caplog.set_level(logging.INFO)
    logger = logging.getLogger("teacher_check")
    build = ResumableRunner.build_dataloader
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield SimpleNamespace(
            model=distilled(),
            iter=0,
            cfg=config,
            logger=logger,
            build_dataloader=build,
            hooks=[],
            optim_wrapper=SimpleNamespace(optim_context=lambda _: nullcontext()),
            train_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo={"classes": ("a", "b")})),
        )


def knowing(samples: list[Any], share: float = 1.0) -> list[Any]:
    """Predict what is annotated, or the first instances of it."""
    found = copy.deepcopy(samples)
    for sample in found:
        truth = sample.gt_instances[: max(1, round(share * len(sample.gt_instances)))]
        masks = torch.from_numpy(truth.masks.to_ndarray()).bool()
        scores = torch.linspace(0.9, 0.5, len(truth))
        sample.pred_instances = InstanceData(
            bboxes=truth.bboxes, labels=truth.labels, masks=masks, scores=scores
        )
    return found


def test_a_teacher_that_knows_nothing_stops_the_run(runner: Any) -> None:
    # of random weights, by the very path that distillation takes
    with pytest.raises(UserError) as error:
        TeacherCheckHook(images=3).before_train(runner)
    for words in (
        "The teacher's coco/segm_mAP on 3 validation images is 0.00",
        "at least 0.02 (TeacherCheckHook.min_score)",
        "teacher_ckpt",
        "data_preprocessor",
    ):
        assert words in str(error.value)


def test_a_good_teacher_is_told_of_and_a_weak_one_warned_of(
    runner: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.model.frozen, "predict", lambda _, samples: knowing(samples))
    said = {}
    for baseline in (None, 0.9, 1.0):
        caplog.clear()
        TeacherCheckHook(images=2, baseline=baseline).before_train(runner)
        said[baseline] = [
            (each.levelname, each.message) for each in caplog.records if "teacher's" in each.message
        ]
    good = ("INFO", "The teacher's coco/segm_mAP on 2 validation images is 1.000.")
    assert said[None] == said[0.9] == [good]
    (level, warning) = said[1.0][1]
    assert (level, said[1.0][0]) == ("WARNING", good)
    assert "no more than the student reaches without it (1.0)" in warning


@pytest.mark.parametrize("images", [1, 2, 3])
def test_the_score_equals_that_of_a_data_set_of_these_pictures_alone(
    runner: Any, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    predicted: list[Any] = []

    def predict(_: Any, samples: list[Any]) -> list[Any]:
        predicted.extend(knowing(samples, share=0.5))
        return predicted[-len(samples) :]

    monkeypatch.setattr(runner.model.frozen, "predict", predict)
    found, count = TeacherCheckHook(images=images)._evaluate(runner, runner.model)
    assert count == images
    whole = json.loads((shapes / "annotations" / "val.json").read_text())
    chosen = [each["id"] for each in whole["images"]][:images]
    assert [each.img_id for each in predicted] == chosen
    part = {
        **whole,
        "images": [each for each in whole["images"] if each["id"] in chosen],
        "annotations": [each for each in whole["annotations"] if each["image_id"] in chosen],
    }
    (tmp_path / "part.json").write_text(json.dumps(part))
    metric = CocoMetric(ann_file=str(tmp_path / "part.json"), metric=["bbox", "segm"])
    alone = Evaluator([metric])
    alone.dataset_meta = runner.build_dataloader(runner.cfg.val_dataloader).dataset.metainfo
    alone.process(data_samples=predicted, data_batch={})
    expected = alone.evaluate(images)
    assert found == pytest.approx(expected, nan_ok=True)
    assert 0.2 < found["coco/segm_mAP"] < 1


def test_the_config_and_its_evaluator_stay_as_they_are(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.model.frozen, "predict", lambda _, samples: knowing(samples))
    before = copy.deepcopy(runner.cfg.to_dict())
    TeacherCheckHook(images=1).before_train(runner)
    assert runner.cfg.to_dict() == before


def test_a_metric_that_is_not_there_is_refused(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.model.frozen, "predict", lambda _, samples: knowing(samples))
    with pytest.raises(UserError, match=r"gives coco/bbox_mAP, .*found 'coco/mask_mAP'\."):
        TeacherCheckHook(images=1, metric="coco/mask_mAP").before_train(runner)


def test_neither_a_resumed_training_nor_one_without_a_teacher_is_checked(runner: Any) -> None:
    hook, model = TeacherCheckHook(images=1), runner.model
    for step, trained in ((5, model), (0, model.architecture)):
        runner.iter, runner.model = step, trained
        hook.before_train(runner)  # this teacher would be refused


def test_a_teacher_of_other_classes_or_another_order_is_refused(runner: Any) -> None:
    runner.model.teacher.trained_classes = ("b", "a")
    with pytest.raises(UserError, match=r"on the classes b, a\.\.\., and the training set has a, b"):
        TeacherCheckHook(images=1).before_train(runner)


def test_extra_targets_ask_for_classes_too(runner: Any) -> None:
    runner.model.teacher.trained_classes = ("b", "a")
    runner.model.distiller.factors["loss_instance"] = 0.0
    runner.model.distiller.extra_targets = torch.nn.Identity()
    with pytest.raises(UserError, match=r"on the classes b, a"):
        TeacherCheckHook(images=1).before_train(runner)


def test_maps_alone_ask_for_no_classes(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.model.frozen, "predict", lambda _, samples: knowing(samples))
    runner.model.teacher.trained_classes = ("b", "a")
    runner.model.distiller.factors["loss_instance"] = 0.0
    TeacherCheckHook(images=1).before_train(runner)


def test_a_class_that_the_data_do_not_have_is_named(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(_: Any, samples: list[Any]) -> list[Any]:
        found = knowing(samples)
        found[0].pred_instances.labels[0] = 57
        return found

    monkeypatch.setattr(runner.model.frozen, "predict", predict)
    with pytest.raises(UserError, match=r"class number 57, and the validation set has 8 classes"):
        TeacherCheckHook(images=1).before_train(runner)


def test_without_a_validation_the_teacher_is_not_scored(
    runner: Any, caplog: pytest.LogCaptureFixture
) -> None:
    runner.cfg.val_dataloader = None
    TeacherCheckHook(images=1).before_train(runner)
    assert caplog.messages[-1] == "The teacher is not evaluated: there is no val_dataloader."


@pytest.mark.parametrize("step", [0, 5])
def test_an_average_that_copies_the_teacher_is_refused(runner: Any, step: int) -> None:
    runner.hooks, runner.iter = [EMAHook()], step  # resumed or not
    with pytest.raises(UserError, match="StudentEMAHook"):
        TeacherCheckHook(images=1).before_train(runner)


def test_pictures_without_instances_are_told_apart_from_a_bad_teacher(
    runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TeacherCheckHook, "_evaluate", lambda *_: ({"coco/segm_mAP": -1.0}, 1))
    with pytest.raises(UserError, match="no instance"):
        TeacherCheckHook(images=1).before_train(runner)
