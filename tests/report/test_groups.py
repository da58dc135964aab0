"""Runs that differ in their seed alone are one group."""

import pytest

from ibkd_mm.distill import FrozenTeacherDistill
from ibkd_mm.engine.runner import with_safety_hooks
from ibkd_mm.errors import UserError
from ibkd_mm.registry import MODELS
from ibkd_mm.report.comparability import differences
from ibkd_mm.report.groups import group_runs
from ibkd_mm.report.training_run import read_runs


@pytest.fixture
def read(made, tmp_path):
    def read(*runs):
        folders = [
            made.write_run(tmp_path / str(place), made.finished(0.4), config, seed=seed, name=name)
            for place, (name, seed, config) in enumerate(runs)
        ]
        return read_runs(folders)

    return read


def test_seeds_are_grouped_whatever_has_no_effect(made, read):
    quick = made.changed(train_dataloader__num_workers=4, train_cfg__val_interval=50)
    groups = group_runs(read(("base", 1, made.CONFIG), ("base", 0, quick)))
    assert [(each.label, each.seeds) for each in groups] == [("baseline", [0, 1])]


def test_safety_hooks_that_only_the_runner_adds_make_no_other_group(made, read):
    """`ibkd train` logs them, mmdet's tools do not."""
    logged = made.changed(default_hooks=with_safety_hooks({}))
    changed = made.changed(default_hooks={"non_finite": {"patience": 3}})
    groups = group_runs(read(("base", 0, made.CONFIG), ("base", 1, logged), ("base", 2, changed)))
    assert [group.seeds for group in groups] == [[0, 1], [2]]


@pytest.mark.parametrize(
    "change",
    [{"train_cfg__max_iters": 300}, {"model": {"type": "Other"}}, {"train_dataloader__batch_size": 8}],
)
def test_anything_else_makes_another_group(made, read, change):
    groups = group_runs(read(("base", 0, made.CONFIG), ("base", 1, made.changed(**change))))
    assert [each.seeds for each in groups] == [[0], [1]]


def test_a_model_or_transform_that_cannot_be_imported_is_ordinary(made, read):
    """A user's own class may be registered by a package that is not installed here."""
    pipeline = [{"type": "nowhere.Transform"}, {"type": "Unheard"}, made.PACK]
    config = made.changed(model={"type": "nowhere.Model"}, train_dataloader__dataset__pipeline=pipeline)
    other = made.changed(model={"type": "Unheard"}, train_dataloader__dataset__pipeline=pipeline)
    groups = group_runs(read(("a", 0, config), ("b", 0, other)))
    assert [group.distilled for group in groups] == [False, False]
    assert groups[0].student == {"type": "nowhere.Model"}
    assert differences(*groups) == [
        "student.type: nowhere.Model (baseline (a)), Unheard (baseline (b))",
    ]


def test_a_subclass_of_the_distillation_is_one_whatever_its_name(made, read):
    class OwnDistillation(FrozenTeacherDistill):
        pass

    MODELS.register_module(module=OwnDistillation)
    try:
        model = {**made.distillation(), "type": "OwnDistillation"}
        (group,) = group_runs(read(("own", 0, made.changed(model=model))))
        assert (group.label, group.student) == ("distilled", made.STUDENT)
    finally:
        MODELS.module_dict.pop("OwnDistillation")


def test_the_baseline_comes_first_and_labels_show_how_the_configs_differ(made, read):
    online, other = (made.changed(model={**made.distillation(), "online": value}) for value in (True, False))
    groups = group_runs(
        read(("ibkd_n_cfb", 0, online), ("ibkd_n_cached", 0, other), ("yolov10n", 0, made.CONFIG))
    )
    assert [each.label for each in groups] == ["baseline", "distilled (cfb)", "distilled (cached)"]
    assert [each.distilled for each in groups] == [False, True, True]
    assert groups[1].student == made.STUDENT


@pytest.fixture
def labels(made, tmp_path):
    def labels(*runs):
        folders = [
            made.write_run(
                tmp_path / folder, made.finished(0.4), made.changed(model={"type": folder}), name=name
            )
            for name, folder in runs
        ]
        return [each.label for each in group_runs(read_runs(folders))]

    return labels


@pytest.mark.parametrize(
    ("runs", "ends"),
    [
        ([("base", "r18/student"), ("base", "r50/student")], ["r18/student", "r50/student"]),
        (
            [("base", "r18/a/student"), ("base", "r50/a/student"), ("base", "other")],
            ["r18/a/student", "r50/a/student", "other"],
        ),
        ([("base_x", "a"), ("base", "x"), ("base", "y")], ["a", "x", "y"]),  # `x` is in a name, and a folder
    ],
)
def test_no_two_labels_are_the_same(labels, runs, ends):
    assert labels(*runs) == [f"baseline ({end})" for end in ends]


def _resumed(made, folder, seed, load_from):
    """Write a training that stopped half way and was resumed from its own checkpoint."""
    begun = made.changed(load_from=load_from)
    made.write_run(folder, made.finished(0.4)[:3], begun, seed=seed)
    resumed = made.changed(resume=True, load_from=str(folder / "iter_100.pth"))
    return made.write_run(folder, made.finished(0.4)[3:], resumed, seed=seed, stamp="20260102_000000")


def test_a_resumed_seed_is_grouped_by_its_initial_weights(made, tmp_path):
    begun = made.changed(load_from="trained.pth")
    runs = [
        made.write_run(tmp_path / str(seed), made.finished(0.4), begun, seed=seed, name="base")
        for seed in (0, 2)
    ]
    runs.append(_resumed(made, tmp_path / "1", 1, "trained.pth"))
    groups = group_runs(read_runs(runs))
    assert [(each.label, each.seeds) for each in groups] == [("baseline", [0, 1, 2])]
    assert [run.log.reached for run in groups[0].runs] == [200, 200, 200]
    runs.append(_resumed(made, tmp_path / "3", 3, "other.pth"))
    assert [each.seeds for each in group_runs(read_runs(runs))] == [[0, 1, 2], [3]]


def test_configs_of_the_same_name_are_labelled_by_their_folders(made, read):
    online, other = (made.changed(model={**made.distillation(), "online": value}) for value in (True, False))
    groups = group_runs(read(("ibkd", 0, online), ("ibkd", 0, other)))
    assert [each.label for each in groups] == ["distilled (0)", "distilled (1)"]


def test_the_same_seed_twice_is_no_second_measurement(made, read):
    with pytest.raises(UserError, match=r"one run per seed.*the same seed, 3"):
        group_runs(read(("base", 3, made.CONFIG), ("base", 3, made.CONFIG)))
