"""Comparable trainings have the same student, schedule, data and seeds; the teacher may differ."""

import copy

import pytest

from ibkd_mm.errors import UserError
from ibkd_mm.report.comparability import check_comparable
from ibkd_mm.report.groups import group_runs
from ibkd_mm.report.training_run import read_runs


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
        return group_runs(read_runs(runs))

    return groups


def test_a_distillation_of_the_same_training_may_be_compared(made, groups):
    assert check_comparable(groups(made.CONFIG), allowed=False) == []


def test_transforms_that_carry_the_teachers_instances_are_no_difference(made, groups):
    load = {"type": "ibkd_mm.LoadTeacherInstances", "cache": "teacher.sqlite"}
    pipeline = [load, made.FLIP, made.PACK, {"type": "ibkd_mm.MaskCells"}]
    assert (
        check_comparable(groups(made.changed(train_dataloader__dataset__pipeline=pipeline)), allowed=False)
        == []
    )


@pytest.mark.parametrize(
    ("first_step", "given", "line"),
    [
        ("ibkd_mm.NoAnnotations", {}, None),
        ("ibkd_mm.NoAnnotations", {"ann_file": "more.json"}, "ann_file: train.json .baseline., more.json"),
        ("LoadAnnotations", {}, "dataset.type: .*ConcatDataset"),
    ],
)
def test_images_that_only_the_teacher_labels_are_no_difference(made, groups, first_step, given, line):
    labelled = made.CONFIG["train_dataloader"]["dataset"]
    others = {**labelled, "pipeline": [{"type": first_step}, made.FLIP, made.PACK]}
    repeated = {"type": "RepeatDataset", "times": 3, "dataset": {**labelled, **given}}
    joined = {"type": "ConcatDataset", "datasets": [repeated, others]}
    compared = groups(made.changed(train_dataloader__dataset=joined))
    if line is None:
        assert check_comparable(compared, allowed=False) == []
    else:
        with pytest.raises(UserError, match=line):
            check_comparable(compared, allowed=False)


def _repeated(dataset):
    return {"type": "RepeatDataset", "times": 3, "dataset": dataset}


def _mixed(dataset):
    mosaic = [{"type": "ibkd_mm.MosaicAffine"}]
    return {"type": "mmdet.MultiImageMixDataset", "dataset": dataset, "pipeline": mosaic}


def _unwrapped(dataset):
    return dataset


def _kinds(baseline, distilled):
    return f"train_dataloader.dataset.type: {baseline} (baseline), {distilled} (distilled)"


@pytest.mark.parametrize(
    ("baseline", "distilled", "line"),
    [
        (_unwrapped, _mixed, _kinds("CocoDataset", "mmdet.MultiImageMixDataset")),
        (_mixed, _unwrapped, _kinds("mmdet.MultiImageMixDataset", "CocoDataset")),
        (_mixed, _mixed, None),
        (_repeated, _repeated, None),
        (_repeated, _unwrapped, None),
        (lambda dataset: _mixed(_repeated(dataset)), lambda dataset: _repeated(_mixed(dataset)), None),
    ],
)
def test_of_the_wrappers_of_labelled_images_only_repetition_is_no_difference(
    made, groups, baseline, distilled, line
):
    labelled = made.CONFIG["train_dataloader"]["dataset"]
    others = distilled({**labelled, "pipeline": [{"type": "ibkd_mm.NoAnnotations"}, made.PACK]})
    joined = {"type": "ConcatDataset", "datasets": [distilled(labelled), others]}
    found = check_comparable(
        groups(
            made.changed(train_dataloader__dataset=joined),
            baseline=made.changed(train_dataloader__dataset=baseline(labelled)),
        ),
        allowed=True,
    )
    assert found == [] if line is None else line in found


@pytest.mark.parametrize("others", [[], ["unlabelled"]])
def test_more_images_are_a_difference_if_the_training_is_counted_in_epochs(made, tmp_path, others):
    epochs = made.changed(train_cfg={"type": "EpochBasedTrainLoop", "max_epochs": 1})
    labelled = made.CONFIG["train_dataloader"]["dataset"]
    bare = {**labelled, "pipeline": [{"type": "ibkd_mm.NoAnnotations"}, made.PACK]}
    dataset = {"type": "ConcatDataset", "datasets": [labelled, bare]} if others else _repeated(labelled)
    longer = copy.deepcopy({**epochs, "model": made.distillation()})
    longer["train_dataloader"]["dataset"] = dataset
    records = [made.training(50, epoch=1), made.validation(0.4, step=1)]
    runs = [made.write_run(tmp_path / "base", records, epochs)]
    runs += [made.write_run(tmp_path / "ibkd", records, longer, name="ibkd")]
    assert _kinds("CocoDataset", dataset["type"]) in check_comparable(
        group_runs(read_runs(runs)), allowed=True
    )


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
        check_comparable(compared, allowed=False)
    assert f"\n  {line}\n" in str(refusal.value)
    assert "--unequal" in str(refusal.value)
    assert line in check_comparable(compared, allowed=True)


def test_trainings_from_the_same_weights_may_be_compared(made, groups):
    begun = made.changed(load_from="trained.pth")
    assert check_comparable(groups(begun, baseline=begun), allowed=False) == []


@pytest.mark.parametrize("resumed", ["baseline", "distilled"])
def test_the_checkpoint_of_a_resumed_training_is_no_difference(made, groups, resumed):
    configs = {"baseline": made.CONFIG, "distilled": made.CONFIG}
    configs[resumed] = made.changed(resume=True, load_from="work_dirs/one/iter_100.pth")
    assert check_comparable(groups(configs["distilled"], baseline=configs["baseline"]), allowed=False) == []


@pytest.mark.parametrize(
    ("began", "found"),
    [("trained.pth", []), (None, ["load_from: None (baseline), trained.pth (distilled)"])],
)
def test_a_resumed_training_is_compared_by_its_initial_weights(made, groups, tmp_path, began, found):
    folder = tmp_path / "base"
    made.write_run(folder, made.finished(0.4), made.changed(load_from=began), stamp="20251231_000000")
    resumed = made.changed(resume=True, load_from=str(folder / "iter_100.pth"))
    compared = groups(made.changed(load_from="trained.pth"), baseline=resumed)
    assert check_comparable(compared, allowed=True) == found


def test_a_transform_that_is_missing_in_the_pipeline_is_named(made, groups):
    found = check_comparable(
        groups(made.changed(train_dataloader__dataset__pipeline=[made.PACK])), allowed=True
    )
    assert (
        "train_dataloader.dataset.pipeline.0.type: RandomFlip (baseline), PackDetInputs (distilled)" in found
    )


def test_another_student_is_a_difference(made, groups):
    student = copy.deepcopy(made.STUDENT)
    student["neck"]["widen_factor"] = 0.5
    found = check_comparable(groups(made.changed(model=made.distillation(student))), allowed=True)
    assert found == ["student.neck.widen_factor: 0.25 (baseline), 0.5 (distilled)"]


def test_other_seeds_and_more_processes_are_differences(made, groups):
    found = check_comparable(groups(made.CONFIG, seeds=(0, 1), processes=4), allowed=True)
    assert found == ["seeds: 0 (baseline), 0, 1 (distilled)", "processes: 1 (baseline), 4 (distilled)"]


def test_an_unfinished_training_is_named(made, groups):
    found = check_comparable(groups(made.CONFIG, records=made.finished(0.5)[:4]), allowed=True)
    assert len(found) == 1
    assert found[0].endswith("ibkd_0: last validated at step 100 of 200 (distilled)")
