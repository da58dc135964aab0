"""The report by its command: from work dirs to the page, with and without running the models."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import synthetic_work_dirs as MADE
from mmengine.config import Config
from mmengine.registry import MODELS

from ibkd_mm import cli
from ibkd_mm.apis import load_config
from ibkd_mm.apis.report import report
from ibkd_mm.report import evaluate_models as report_models
from ibkd_mm.report.evaluate_models import ValidationSet
from ibkd_mm.report.model_results import ModelResult

TEACHER = "ibkd_mm::mask2former/mask2former_tiny_shapes.py"
WEIGHTS = "ibkd_mm::mask2former_tiny_shapes.safetensors"


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    """A baseline and a distilled student, two seeds each, whose models cannot be run."""
    distilled = MADE.changed(model=MADE.distillation())
    runs = [("base", MADE.CONFIG, 0, 0.20), ("base", MADE.CONFIG, 1, 0.24)]
    runs += [("ibkd", distilled, 0, 0.27), ("ibkd", distilled, 1, 0.29)]
    return [
        str(MADE.write_run(Path(f"{name}_{seed}"), MADE.finished(figure), config, seed=seed, name=name))
        for name, config, seed, figure in runs
    ]


def test_the_command_prints_the_main_table_and_the_path_last(
    pair: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", *pair, "--no-evaluate", "--out-dir", "out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(r"\s{2,}", line)[:2] for line in lines[:-1]] == [
        ["mask, %", "AP"],
        ["baseline", "22.0 ± 2.8"],  # .04 / sqrt(2)
        ["distilled", "28.0 ± 1.4"],
        ["distilled - baseline", "+6.0 ± 1.4"],  # .07 and .05
    ]
    assert lines[-1] == "Wrote out/index.html"
    assert "(--no-evaluate)" in Path("out/index.html").read_text()


def test_the_unequal_is_refused_by_its_key_and_named_on_the_page_where_it_is_wanted(
    pair: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    longer = MADE.changed(train_cfg__max_iters=200, optim_wrapper__optimizer__lr=0.1)
    other = str(MADE.write_run(Path("other"), MADE.finished(0.5), longer, name="other"))
    line = "optim_wrapper.optimizer.lr: 0.002 (baseline (base)), 0.1 (baseline (other))"
    assert cli.main(["report", *pair, other, "--no-evaluate"]) == 2
    assert line in capsys.readouterr().err
    assert not Path("report").exists()
    made = report([*pair, other], unequal=True, evaluate=False)
    assert line in made.unequal
    assert line in made.page.read_text()
    assert "Not a fair comparison: 2 differences" in str(made)  # the rate, and one seed fewer


def test_models_that_cannot_be_run_are_left_out_and_the_reason_is_told(pair: list[str]) -> None:
    assert "The models were not run: " in report(pair).page.read_text()


def _work_dir(name: str, config: Config, figure: float, seed: int = 0) -> str:
    """A training that ended at once, with weights drawn by its name."""
    (Path(name) / "0" / "vis_data").mkdir(parents=True)
    settings = Config({key: config[key] for key in config if key in (*MADE.CONFIG, "default_scope")})
    settings.merge_from_dict({"randomness": {"seed": seed}, "train_cfg.max_iters": 200})
    settings.merge_from_dict({"train_cfg.val_interval": 100})
    settings.dump(Path(name) / "0" / "vis_data" / "config.py")
    records = "".join(json.dumps(each) + "\n" for each in MADE.finished(figure, figure))
    (Path(name) / "0" / "vis_data" / "scalars.json").write_text(records)
    torch.manual_seed(len(name))
    student = MODELS.build(copy.deepcopy(config.model.get("architecture", config.model)))
    torch.save({"state_dict": student.state_dict()}, Path(name) / "iter_200.pth")
    (Path(name) / "last_checkpoint").write_text(str(Path(name).absolute() / "iter_200.pth"))
    return name


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A baseline and a distilled student on two pictures of Shapes, with weights."""
    monkeypatch.setattr(report_models, "_ROUNDS", 1)
    monkeypatch.setattr(report_models, "_WARMUP", 0)
    data = {"data_root": "shapes", "spec": {"preset": "hard", "train": 2, "val": 2, "size": 160, "seed": 0}}
    baseline = load_config("ibkd_mm::yolov10/yolov10n-seg_shapes-hard.py")
    baseline.val_dataloader.dataset.update(data)
    baseline.val_evaluator.ann_file = "shapes/annotations/val.json"
    distilled = baseline.copy()
    described = {**MADE.distillation(baseline.model), "teacher": TEACHER, "teacher_ckpt": WEIGHTS}
    distilled = Config({**baseline.to_dict(), "model": described})
    return [_work_dir("base", baseline, 0.1), _work_dir("distilled", distilled, 0.15)]


def test_models_and_teacher_are_run_once_and_kept(
    trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = report(trained, out_dir="out")
    numbers = json.loads(Path("out/report.json").read_text())
    assert numbers["left_out"] is None
    models = numbers["evaluated"]
    assert list(models) == ["baseline", "distilled", "teacher"]
    teacher = models["teacher"]["metrics"]["coco/segm_mAP"]
    assert models["baseline"]["metrics"]["coco/segm_mAP"] < 0.02 < 0.15 < teacher
    share = numbers["groups"][1]["share_of_gap_closed"]["coco/segm_mAP"]
    assert share == pytest.approx((0.15 - 0.1) / (teacher - 0.1))
    by_class = models["teacher"]["mask_ap_by_class"].values()
    assert sum(by_class) / len(by_class) == pytest.approx(teacher, abs=2e-3)  # each has three digits
    # without the branch that only training has, and with norms fused; the teacher as its README states it
    assert [speed["parameters"] for speed in numbers["speeds"]] == [2_519_144, 2_519_144, 4_244_585]
    assert f"teacher  {100 * teacher:>{str(made).splitlines()[0].index('AP') + 2 - 9}.1f}" in str(made)

    def never(*_: object) -> None:
        raise AssertionError("a model was run again")

    for name in ("open_student", "open_teacher", "time_models"):
        monkeypatch.setattr(report_models, name, never)
    assert str(report(trained, out_dir="out")) == str(made)
    assert json.loads(Path("out/report.json").read_text()) == numbers
    torch.save({"state_dict": {}}, "base/iter_200.pth")  # another checkpoint of that name is another model
    with pytest.raises(AssertionError, match="run again"):
        report(trained, out_dir="out")


@pytest.fixture
def judged(write_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """A baseline and a distilled student on eight pictures, and which of them were run; none is real."""
    ran: list[str] = []

    def evaluate(model: str, validation: ValidationSet, _: Any) -> ModelResult:
        ran.append(model)
        count = len(validation.images)
        return ModelResult({"coco/segm_mAP": count / 100}, {}, [[]] * count)

    for name in ("student", "teacher"):
        monkeypatch.setattr(report_models, f"open_{name}", lambda *_, name=name: name)
    monkeypatch.setattr(report_models, "time_models", lambda *_: [])
    monkeypatch.setattr(report_models, "evaluate", evaluate)
    tiny = Config.fromfile(write_tiny(Path("tiny"))).to_dict()
    shutil.copy("tiny/data/boxes.json", "truth.json")
    student = {**MADE.STUDENT, "data_preprocessor": {}}
    data = {
        "val_dataloader": tiny["val_dataloader"],
        "val_evaluator": {"type": "CocoMetric", "ann_file": "truth.json"},
    }
    distillation = {**MADE.distillation(student), "teacher": {"type": "Teacher"}}
    runs = []
    for name, model in (("base", student), ("ibkd", distillation)):
        run = MADE.write_run(Path(name), MADE.finished(0.1), MADE.changed(model=model, **data), name=name)
        (run / "iter_200.pth").touch()
        (run / "last_checkpoint").write_text("iter_200.pth")
        runs.append(str(run))
    return runs, ran


@pytest.mark.parametrize(("file", "figure"), [("tiny/data/boxes.json", 0.07), ("truth.json", 0.08)])
def test_what_was_judged_by_other_annotations_is_judged_again(
    judged: tuple[list[str], list[str]], file: str, figure: float
) -> None:
    runs, ran = judged

    def teacher() -> float:
        report(runs)
        numbers = json.loads(Path("report/report.json").read_text())
        return numbers["evaluated"]["teacher"]["metrics"]["coco/segm_mAP"]

    all_models = ["student", "student", "teacher"]
    assert (teacher(), ran) == (0.08, all_models)
    assert (teacher(), ran) == (0.08, all_models)
    annotations = json.loads(Path(file).read_text())
    Path(file).write_text(json.dumps({**annotations, "images": annotations["images"][:-1]}))
    assert (teacher(), ran) == (figure, all_models * 2)


@pytest.mark.parametrize("lacking", ["val_dataloader", "val_evaluator"])
def test_a_training_without_validation_says_what_it_lacks(lacking: str) -> None:
    config = MADE.changed(**{lacking: None})
    runs = [MADE.write_run(Path("base"), MADE.finished(0.1), config)]
    report(runs)
    said = json.loads(Path("report/report.json").read_text())["left_out"]
    assert said.startswith("The models were not run: expected val_dataloader and val_evaluator in ")
    assert f"found no {lacking}. Compare " in said


def test_masks_of_every_kind_become_one() -> None:
    square = report_models._to_rle([[2, 2, 6, 2, 6, 6, 2, 6]], (8, 8))
    counts = report_models._to_rle({"size": [8, 8], "counts": [18, 4, 4, 4, 4, 4, 4, 4, 18]}, (8, 8))
    assert square == counts == report_models._to_rle(square, (8, 8))
    assert isinstance(square["counts"], str)
