"""The configs of a quickstart on Shapes: in its folder, as long as planned, alike but for the teacher."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from ibkd_mm.apis import load_config
from ibkd_mm.quickstart.plan import Amounts
from ibkd_mm.quickstart.recipe import ShapesSource, dicts, set_length, write_config
from ibkd_mm.report.comparability import differences
from ibkd_mm.report.groups import Group


def group(label: str, config: Config) -> Group:
    settings = {**config.to_dict(), "randomness": {"seed": 0}}
    run = SimpleNamespace(
        config=settings, seed=0, processes=1, unit="step", load_from=config.get("load_from")
    )
    return Group(label, (run,))  # type: ignore[arg-type]


def test_the_two_trainings_differ_in_nothing_but_the_teacher() -> None:
    material = ShapesSource({"train": 40, "val": 4})
    recipe = material.recipe(Path("out"), material.amounts)
    assert recipe.teacher is None
    for config in recipe.named().values():
        set_length(config, 30, 10)
    one, other = group("baseline", recipe.baseline), group("distilled", recipe.distilled)
    assert other.distilled
    assert differences(one, other) == []
    recipe.distilled.optim_wrapper.optimizer.lr = 1.0
    assert len(differences(one, group("distilled", recipe.distilled))) == 1


def test_everything_lies_in_the_folder_and_as_many_pictures_are_labelled_as_the_config_says() -> None:
    labelled = load_config("ibkd_mm::yolov10/yolov10n-seg_shapes-hard_tenth.py").train_dataloader.dataset
    assert labelled.indices == labelled.spec.train // 10
    assert ShapesSource().amounts == Amounts(50, 450, labelled.spec.val)
    whole = ShapesSource({"train": labelled.spec.train})
    assert whole.amounts == Amounts(
        labelled.indices, labelled.spec.train - labelled.indices, labelled.spec.val
    )
    material = ShapesSource({"train": labelled.spec.train // 10, "val": 4})
    assert material.amounts == Amounts(labelled.indices // 10, whole.amounts.unlabelled // 10, 4)
    recipe = material.recipe(Path("out"), material.amounts)
    for config in recipe.named().values():
        for node in dicts(config.to_dict()):
            for key in ("data_root", "cache", "path", "ann_file"):
                assert str(node.get(key, Path("out").resolve())).startswith(str(Path("out").resolve()))
    bare = recipe.distilled.train_dataloader.dataset.datasets[1]
    assert bare.indices == list(range(material.amounts.labelled, material.amounts.training))
    assert material.asked != whole.asked


@pytest.mark.parametrize("steps", [2, 30, 500, 5000])
def test_a_schedule_counted_in_steps_keeps_a_warm_up_that_is_not_too_long(steps: int) -> None:
    config = load_config("ibkd_mm::yolov10/yolov10n-seg_shapes-hard.py")
    before = config.param_scheduler[0].end
    set_length(config, steps, 7)
    warm_up, decay = config.param_scheduler
    assert warm_up.end == decay.begin == min(before, max(1, steps // 5))
    assert decay.end == config.train_cfg.max_iters == config.train_cfg.val_interval == steps
    assert config.default_hooks.checkpoint.interval == 7


def test_one_counted_in_epochs_keeps_its_shares() -> None:
    config = load_config(
        "ibkd_mm::yolov10/yolov10n-seg_nuclei.py"
    )  # 200 epochs: 5, then to the end; the last 20
    set_length(config, 400, 7)
    warm_up, decay = config.param_scheduler
    assert (warm_up.end, decay.begin, decay.end) == (10, 10, 400)
    assert {warm_up.by_epoch, decay.by_epoch, config.log_processor.by_epoch} == {False}
    assert config.custom_hooks[1]["last"] == 40
    assert config.train_cfg.type == "IterBasedTrainLoop"


def test_milestones_keep_their_shares_and_the_teachers_warm_up_is_cut_too() -> None:
    config = load_config("ibkd_mm::mask2former/mask2former_tiny_nuclei.py")
    former = config.train_cfg.max_iters
    shares = [milestone / former for milestone in config.param_scheduler.milestones]
    set_length(config, 1000, 7)
    assert config.param_scheduler[0].milestones == [round(1000 * share) for share in shares]
    distilled = load_config("ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard_tenth.py")
    set_length(distilled, 100, 7)
    assert distilled.default_hooks.distill_schedule.schedules["all"].warmup == 20


def test_what_is_written_is_read_again_as_it_was() -> None:
    material = ShapesSource({"train": 40, "val": 4})
    config = material.recipe(Path("out"), material.amounts).distilled
    write_config(config, Path("distilled.py"))
    assert load_config("distilled.py").to_dict() == config.to_dict()
