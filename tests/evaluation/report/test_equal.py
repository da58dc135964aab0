"""What may be compared: the same student, schedule, data and seeds; the teacher may differ."""

import copy

import pytest

from ibkd_mm.errors import UserError
from ibkd_mm.evaluation.report import group, read_runs, unequal


@pytest.fixture
def groups(made, tmp_path):
    def groups(distilled, *, baseline=made.CONFIG, records=None, seeds=(0,), processes=1):
        config = {"model": made.distillation(), **{k: v for k, v in distilled.items() if k != "model"}}
        config["model"] = distilled["model"] if distilled["model"] != made.STUDENT else config["model"]
        runs = [made.write_run(tmp_path / "base", made.finished(0.4), baseline)]
        runs += [
            made.write_run(
                tmp_path / f"ibkd_{seed}",
                records or made.finished(0.5),
                config,
                seed=seed,
                name="ibkd",
                processes=processes,
            )
            for seed in seeds
        ]
        return group(read_runs(runs))

    return groups


def test_a_distillation_of_the_same_training_may_be_compared(made, groups):
    assert unequal(groups(made.CONFIG), allowed=False) == []


def test_transforms_that_carry_the_teacher_along_are_no_difference(made, groups):
    riders = {"type": "ibkd_mm.LoadTeacherInstances", "cache": "teacher.sqlite"}
    pipeline = [riders, made.FLIP, made.PACK, {"type": "ibkd_mm.MaskCells"}]
    assert unequal(groups(made.changed(train_dataloader__dataset__pipeline=pipeline)), allowed=False) == []


@pytest.mark.parametrize(
    ("first_step", "given", "line"),
    [
        ("ibkd_mm.NoAnnotations", {}, None),
        ("ibkd_mm.NoAnnotations", {"ann_file": "more.json"}, "ann_file: train.json .baseline., more.json"),
        ("LoadAnnotations", {}, "dataset.type: .*ConcatDataset"),
    ],
)
def test_pictures_that_the_teacher_alone_labels_are_the_teachers_and_others_are_not(
    made, groups, first_step, given, line
):
    labelled = made.CONFIG["train_dataloader"]["dataset"]
    others = {**labelled, "pipeline": [{"type": first_step}, made.FLIP, made.PACK]}
    repeated = {"type": "RepeatDataset", "times": 3, "dataset": {**labelled, **given}}
    joined = {"type": "ConcatDataset", "datasets": [repeated, others]}
    compared = groups(made.changed(train_dataloader__dataset=joined))
    if line is None:
        assert unequal(compared, allowed=False) == []
    else:
        with pytest.raises(UserError, match=line):
            unequal(compared, allowed=False)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"train_cfg__max_iters": 100}, "train_cfg.max_iters: 200 (baseline), 100 (distilled)"),
        (
            {"optim_wrapper__optimizer__lr": 0.1},
            "optim_wrapper.optimizer.lr: 0.002 (baseline), 0.1 (distilled)",
        ),
        ({"param_scheduler": []}, "param_scheduler.0.end: 20 (baseline), not set (distilled)"),
        ({"train_dataloader__batch_size": 4}, "train_dataloader.batch_size: 16 (baseline), 4 (distilled)"),
        (
            {"train_dataloader__dataset__ann_file": "tenth.json"},
            "train_dataloader.dataset.ann_file: train.json (baseline), tenth.json (distilled)",
        ),
        (
            {"val_evaluator__ann_file": "x.json"},
            "val_evaluator.ann_file: val.json (baseline), x.json (distilled)",
        ),
        (
            {"custom_hooks": [{"type": "EMAHook"}]},
            "custom_hooks.0.type: not set (baseline), EMAHook (distilled)",
        ),
        ({"load_from": "trained.pth"}, "load_from: None (baseline), trained.pth (distilled)"),
    ],
)
def test_every_difference_is_named_by_its_key(groups, made, change, line):
    config = made.changed(**change)
    compared = groups(config)
    with pytest.raises(UserError) as refusal:
        unequal(compared, allowed=False)
    assert f"\n  {line}\n" in str(refusal.value)
    assert "--unequal" in str(refusal.value)
    assert line in unequal(compared, allowed=True)


def test_trainings_from_the_same_weights_may_be_compared(made, groups):
    begun = made.changed(load_from="trained.pth")
    assert unequal(groups(begun, baseline=begun), allowed=False) == []


@pytest.mark.parametrize("resumed", ["baseline", "distilled"])
def test_the_checkpoint_that_was_gone_on_from_is_no_difference(made, groups, resumed):
    configs = {"baseline": made.CONFIG, "distilled": made.CONFIG}
    configs[resumed] = made.changed(resume=True, load_from="work_dirs/one/iter_100.pth")
    assert unequal(groups(configs["distilled"], baseline=configs["baseline"]), allowed=False) == []


def test_a_step_that_is_lacking_in_the_pipeline_is_named(made, groups):
    found = unequal(groups(made.changed(train_dataloader__dataset__pipeline=[made.PACK])), allowed=True)
    assert (
        "train_dataloader.dataset.pipeline.0.type: RandomFlip (baseline), PackDetInputs (distilled)" in found
    )


def test_another_student_is_a_difference(made, groups):
    student = copy.deepcopy(made.STUDENT)
    student["neck"]["widen_factor"] = 0.5
    found = unequal(groups(made.changed(model=made.distillation(student))), allowed=True)
    assert found == ["student.neck.widen_factor: 0.25 (baseline), 0.5 (distilled)"]


def test_other_seeds_and_more_processes_are_differences(made, groups):
    found = unequal(groups(made.CONFIG, seeds=(0, 1), processes=4), allowed=True)
    assert found == ["seeds: 0 (baseline), 0, 1 (distilled)", "processes: 1 (baseline), 4 (distilled)"]


def test_a_training_that_is_not_at_its_end_is_named(made, groups):
    found = unequal(groups(made.CONFIG, records=made.finished(0.5)[:4]), allowed=True)
    assert len(found) == 1
    assert found[0].endswith("ibkd_0: last validated at step 100 of 200 (distilled)")
