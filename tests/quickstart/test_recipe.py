"""The configs of a quickstart on Shapes: in its folder, alike except for the teacher."""

from pathlib import Path
from types import SimpleNamespace

from mmengine.config import Config

from ibkd_mm.apis import load_config
from ibkd_mm.config.edit import set_training_length
from ibkd_mm.config.walk import dicts
from ibkd_mm.quickstart.plan import ImageCounts
from ibkd_mm.quickstart.recipe import ShapesSource
from ibkd_mm.report.comparability import differences
from ibkd_mm.report.groups import Group


def group(label: str, config: Config) -> Group:
    settings = {**config.to_dict(), "randomness": {"seed": 0}}
    run = SimpleNamespace(
        config=settings, seed=0, processes=1, unit="step", load_from=config.get("load_from")
    )
    return Group(label, (run,))  # type: ignore[arg-type]


def test_the_two_trainings_differ_in_nothing_but_the_teacher() -> None:
    source = ShapesSource({"train": 40, "val": 4})
    recipe = source.recipe(Path("out"), source.images)
    assert recipe.teacher is None
    for config in recipe.configs().values():
        set_training_length(config, 30, 10)
    one, other = group("baseline", recipe.baseline), group("distilled", recipe.distilled)
    assert other.distilled
    assert differences(one, other) == []
    recipe.distilled.optim_wrapper.optimizer.lr = 1.0
    assert len(differences(one, group("distilled", recipe.distilled))) == 1


def test_all_paths_are_in_the_folder_and_the_labelled_share_is_that_of_the_config() -> None:
    labelled = load_config("ibkd_mm::yolov10/yolov10n-seg_shapes-hard_tenth.py").train_dataloader.dataset
    assert labelled.indices == labelled.spec.train // 10
    assert ShapesSource().images == ImageCounts(50, 450, labelled.spec.val)
    whole = ShapesSource({"train": labelled.spec.train})
    assert whole.images == ImageCounts(
        labelled.indices, labelled.spec.train - labelled.indices, labelled.spec.val
    )
    source = ShapesSource({"train": labelled.spec.train // 10, "val": 4})
    assert source.images == ImageCounts(labelled.indices // 10, whole.images.unlabelled // 10, 4)
    recipe = source.recipe(Path("out"), source.images)
    for config in recipe.configs().values():
        for node in dicts(config.to_dict()):
            for key in ("data_root", "cache", "path", "ann_file"):
                assert str(node.get(key, Path("out").resolve())).startswith(str(Path("out").resolve()))
    unlabelled = recipe.distilled.train_dataloader.dataset.datasets[1]
    assert unlabelled.indices == list(range(source.images.labelled, source.images.training))
    assert source.inputs != whole.inputs
