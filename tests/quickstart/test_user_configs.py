"""The configs for a user's own data, and the teachers that fit them."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmdet.registry import DATASETS
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from safetensors.torch import load_file, save_file

from ibkd_mm.datasets.shapes import CLASSES
from ibkd_mm.engine.checkpoint.sources import locate
from ibkd_mm.errors import UserError
from ibkd_mm.quickstart import user_configs as own
from ibkd_mm.quickstart.plan import Amounts
from ibkd_mm.quickstart.recipe import dicts, set_length
from ibkd_mm.quickstart.user_configs import UserDataSource
from ibkd_mm.report.comparability import differences
from ibkd_mm.report.groups import Group

Write = Callable[..., Path]
SHIPPED = ("ibkd_mm::mask2former/mask2former_tiny_shapes.py", "ibkd_mm::mask2former_tiny_shapes.safetensors")


def group(config) -> Group:
    settings = {**config.to_dict(), "randomness": {"seed": 0}}
    run = SimpleNamespace(
        config=settings, seed=0, processes=1, unit="step", load_from=config.get("load_from")
    )
    return Group("one", (run,))  # type: ignore[arg-type]


@pytest.mark.parametrize("unlisted", [0, 9])
def test_the_students_differ_in_nothing_but_the_teacher(write_own: Write, unlisted: int) -> None:
    material = UserDataSource(write_own(unlisted=unlisted).parent, None, None)
    assert material.amounts.unlabelled == unlisted
    recipe = material.recipe(Path("out"), material.amounts)
    for config in recipe.named().values():
        set_length(config, 30, 10)
    assert group(recipe.distilled).distilled
    assert differences(group(recipe.baseline), group(recipe.distilled)) == []


def test_each_learns_from_its_pictures_at_the_size_of_the_data(write_own: Write) -> None:
    material = UserDataSource(write_own(labelled=10, unlisted=9).parent, None, None)
    amounts = Amounts(6, 5, 2)
    material.make(Path("out"), amounts)
    recipe = material.recipe(Path("out"), amounts)
    sizes = [node["size"] for node in dicts(recipe.baseline.train_dataloader.to_dict()) if "size" in node]
    assert sizes == [(64, 64)]
    assert recipe.baseline.val_dataloader.dataset.pipeline[1].scale == (64, 64)
    init_default_scope("mmdet")
    bare = recipe.baseline.train_dataloader.dataset.dataset
    whole = DATASETS.build(bare)
    assert (len(whole), whole.metainfo["classes"]) == (6, ("cat", "dog"))
    assert len(DATASETS.build(recipe.teacher.train_dataloader.dataset)) == 6
    often, rest = recipe.distilled.train_dataloader.dataset.dataset.datasets
    assert (often.times, often.dataset.indices, rest.indices) == (1, 6, [6, 7, 8, 9, 10])
    assert [step["type"] for step in rest.pipeline] == [
        "LoadImageFromFile",
        "ibkd_mm.NoAnnotations",
        "ibkd_mm.LoadTeacherInstances",
    ]


def test_large_pictures_are_made_smaller(write_own: Write) -> None:
    file = write_own()
    content = json.loads(file.read_text())
    for image in content["images"]:
        image.update(width=1000, height=333)
    file.write_text(json.dumps(content))
    assert own._side(UserDataSource(file, None, None)._data) == own._SIDE
    for image in content["images"]:
        image.update(width=97, height=33)
    file.write_text(json.dumps(content))
    assert own._side(UserDataSource(file, None, None)._data) == 128


def test_both_models_have_the_classes_of_the_data(write_own: Write) -> None:
    material = UserDataSource(write_own(), None, None)
    recipe = material.recipe(Path("out"), material.amounts)
    init_default_scope("mmdet")
    assert recipe.baseline.model.bbox_head.num_classes == 2
    teacher = MODELS.build(recipe.teacher.model)
    assert teacher.panoptic_head.num_classes == 2
    assert teacher.panoptic_head.cls_embed.out_features == 3
    assert recipe.teacher.load_from == SHIPPED[1]
    assert recipe.distilled.model.teacher == str(Path("out/teacher.py").resolve())


def test_a_teacher_of_other_classes_is_refused_before_any_work(write_own: Write) -> None:
    file = write_own()
    with pytest.raises(UserError, match="Expected cat, dog; found disc, square") as refused:
        UserDataSource(file, *SHIPPED)
    assert "must be those of the data" in str(refused.value)
    with pytest.raises(UserError, match="together, or neither"):
        UserDataSource(file, SHIPPED[0], None)
    with pytest.raises(UserError, match="does not fit its config"):
        UserDataSource(file, "ibkd_mm::mask_rcnn/mask_rcnn_r18_fpn_shapes.py", SHIPPED[1])


def test_labels_follow_the_order_of_the_teachers_classes(write_own: Write) -> None:
    categories = [{"id": number, "name": name} for number, name in enumerate(reversed(CLASSES), start=1)]
    material = UserDataSource(write_own(categories=categories), *SHIPPED)
    material.make(Path("out"), material.amounts)
    written = json.loads(Path("out/data/train.json").read_text())
    assert [category["name"] for category in written["categories"]] == list(CLASSES)
    ours = {category["id"]: category["name"] for category in written["categories"]}
    assert [ours[each["category_id"]] for each in written["annotations"][:8]] == list(reversed(CLASSES))
    recipe = material.recipe(Path("out"), material.amounts)
    assert recipe.teacher is None
    assert (recipe.distilled.model.teacher, recipe.distilled.model.teacher_ckpt) == SHIPPED
    assert material.advice == []


def test_broken_data_are_refused_with_what_the_check_finds(write_own: Write) -> None:
    file = write_own()
    material = UserDataSource(file, None, None)
    material.make(Path("out"), material.amounts)
    recipe = material.recipe(Path("out"), material.amounts)
    assert material.check_sound(recipe) == []
    picture = material._data.labelled[0].file
    picture.write_bytes(picture.read_bytes()[:100])
    with pytest.raises(UserError, match="must be mended first") as refused:
        material.check_sound(recipe)
    assert picture.name in str(refused.value)


def test_other_data_are_another_plan(write_own: Write) -> None:
    file = write_own(unlisted=2)
    asked = UserDataSource(file.parent, None, None).asked
    assert UserDataSource(file.parent, None, None).asked == asked

    def changed() -> set[str]:
        now = UserDataSource(file.parent, None, None).asked
        return {name for name in asked if asked[name] != now[name]}

    picture = file.parent / "images" / "more.png"
    picture.write_bytes((file.parent / "images" / "000.png").read_bytes())
    assert changed() == {"pictures without labels"}
    picture.unlink()
    file.write_text(file.read_text() + " ")
    assert changed() == {"annotations"}


def test_other_weights_of_the_teacher_or_another_size_are_another_plan(
    write_own: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    file = write_own(categories=categories)
    weights = Path("mine.safetensors")
    weights.write_bytes(locate(SHIPPED[1]).read_bytes())
    asked = UserDataSource(file, SHIPPED[0], str(weights)).asked
    changed = load_file(weights)
    next(iter(changed.values())).add_(1)
    save_file(changed, weights)
    monkeypatch.setattr(own, "_SIDE", 32)  # as a GPU does
    other = UserDataSource(file, SHIPPED[0], str(weights)).asked
    assert {name for name in asked if asked[name] != other[name]} == {"teacher weights", "side of pictures"}


def test_both_students_learn_from_whole_batches_of_however_few_pictures(write_own: Write) -> None:
    material = UserDataSource(write_own(labelled=4, unlisted=9).parent, None, None)
    recipe = material.recipe(Path("out"), material.amounts)
    for config in (recipe.baseline, recipe.distilled):
        loader = copy.deepcopy(config.train_dataloader)
        loader.update(num_workers=0, persistent_workers=False, dataset=list(range(3)))
        batches = iter(Runner.build_dataloader(loader))
        assert [len(next(batches)) for _ in range(3)] == [loader.batch_size] * 3


def test_what_is_said_names_the_amounts_and_that_the_teacher_is_weak(write_own: Write) -> None:
    material = UserDataSource(write_own(labelled=10, bare=3), None, None)
    amounts = dataclasses.astuple(material.amounts)
    assert sum(amounts) == 13
    first, second = material.said
    assert f"{amounts[0]} pictures with labels and 3 without to learn from, {amounts[2]} to judge by" in first
    assert "2 classes: cat, dog." in first
    assert "WEAK" in second
    assert "--teacher-weights" in second
    assert material.advice == [second]


def test_what_is_left_out_is_said_with_its_folders_those_of_most_pictures_first(write_own: Write) -> None:
    file = write_own()
    for number, folder in enumerate(("a", "b", "c", "d", "e", "f/masks"), start=1):
        (file.parent / folder).mkdir(parents=True)
        for place in range(1001 if number == 6 else number):
            (file.parent / folder / f"{place}.png").touch()
    _, line, _ = UserDataSource(file.parent, None, None).said
    assert line.startswith("Left out: 1,016 pictures in folders that hold no picture that the JSON lists")
    assert ": f/masks (1,001), e (5), d (4), c (3), b (2) and 1 more. To learn from some of them, " in line
    assert len(UserDataSource(file, None, None).said) == 2
