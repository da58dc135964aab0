"""Configs and teachers for a user's own data."""

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

from ibkd_mm.config.edit import set_training_length
from ibkd_mm.config.walk import dicts
from ibkd_mm.datasets.shapes import CLASSES
from ibkd_mm.engine.checkpoint.sources import locate
from ibkd_mm.errors import UserError
from ibkd_mm.quickstart import user_configs
from ibkd_mm.quickstart.plan import ImageCounts
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
def test_the_students_differ_in_nothing_but_the_teacher(write_coco: Write, unlisted: int) -> None:
    source = UserDataSource(write_coco(unlisted=unlisted).parent, None, None)
    assert source.images.unlabelled == unlisted
    recipe = source.recipe(Path("out"), source.images)
    for config in recipe.configs().values():
        set_training_length(config, 30, 10)
    assert group(recipe.distilled).distilled
    assert differences(group(recipe.baseline), group(recipe.distilled)) == []


def test_each_training_has_its_images_at_the_size_of_the_data(write_coco: Write) -> None:
    source = UserDataSource(write_coco(labelled=10, unlisted=9).parent, None, None)
    images = ImageCounts(6, 5, 2)
    source.prepare(Path("out"), images)
    recipe = source.recipe(Path("out"), images)
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


def test_large_images_are_resized(write_coco: Write) -> None:
    file = write_coco()
    content = json.loads(file.read_text())
    for image in content["images"]:
        image.update(width=1000, height=333)
    file.write_text(json.dumps(content))
    assert user_configs._image_side(UserDataSource(file, None, None)._data) == user_configs._MAX_SIDE
    for image in content["images"]:
        image.update(width=97, height=33)
    file.write_text(json.dumps(content))
    assert user_configs._image_side(UserDataSource(file, None, None)._data) == 128


def test_both_models_have_the_classes_of_the_data(write_coco: Write) -> None:
    source = UserDataSource(write_coco(), None, None)
    recipe = source.recipe(Path("out"), source.images)
    init_default_scope("mmdet")
    assert recipe.baseline.model.bbox_head.num_classes == 2
    teacher = MODELS.build(recipe.teacher.model)
    assert teacher.panoptic_head.num_classes == 2
    assert teacher.panoptic_head.cls_embed.out_features == 3
    assert recipe.teacher.load_from == SHIPPED[1]
    assert recipe.distilled.model.teacher == str(Path("out/teacher.py").resolve())


def test_a_teacher_of_other_classes_is_refused_before_any_work(write_coco: Write) -> None:
    file = write_coco()
    with pytest.raises(UserError, match="Expected cat, dog; found disc, square") as refused:
        UserDataSource(file, *SHIPPED)
    assert "must be those of the data" in str(refused.value)
    with pytest.raises(UserError, match="together, or neither"):
        UserDataSource(file, SHIPPED[0], None)
    with pytest.raises(UserError, match="does not fit its config"):
        UserDataSource(file, "ibkd_mm::mask_rcnn/mask_rcnn_r18_fpn_shapes.py", SHIPPED[1])


def test_labels_follow_the_order_of_the_teachers_classes(write_coco: Write) -> None:
    categories = [{"id": number, "name": name} for number, name in enumerate(reversed(CLASSES), start=1)]
    source = UserDataSource(write_coco(categories=categories), *SHIPPED)
    source.prepare(Path("out"), source.images)
    written = json.loads(Path("out/data/train.json").read_text())
    assert [category["name"] for category in written["categories"]] == list(CLASSES)
    ours = {category["id"]: category["name"] for category in written["categories"]}
    assert [ours[each["category_id"]] for each in written["annotations"][:8]] == list(reversed(CLASSES))
    recipe = source.recipe(Path("out"), source.images)
    assert recipe.teacher is None
    assert (recipe.distilled.model.teacher, recipe.distilled.model.teacher_ckpt) == SHIPPED
    assert source.advice == []


def test_broken_data_are_refused_with_what_the_check_finds(write_coco: Write) -> None:
    file = write_coco()
    source = UserDataSource(file, None, None)
    source.prepare(Path("out"), source.images)
    recipe = source.recipe(Path("out"), source.images)
    assert source.check(recipe) == []
    image = source._data.labelled[0].file
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(UserError, match="Fix them first") as refused:
        source.check(recipe)
    assert image.name in str(refused.value)


def test_other_data_are_other_inputs(write_coco: Write) -> None:
    file = write_coco(unlisted=2)
    inputs = UserDataSource(file.parent, None, None).inputs
    assert UserDataSource(file.parent, None, None).inputs == inputs

    def changed() -> set[str]:
        now = UserDataSource(file.parent, None, None).inputs
        return {name for name in inputs if inputs[name] != now[name]}

    image = file.parent / "images" / "more.png"
    image.write_bytes((file.parent / "images" / "000.png").read_bytes())
    assert changed() == {"unlabelled images"}
    image.unlink()
    file.write_text(file.read_text() + " ")
    assert changed() == {"annotations"}


def test_other_teacher_weights_or_another_image_size_are_other_inputs(
    write_coco: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    file = write_coco(categories=categories)
    weights = Path("mine.safetensors")
    weights.write_bytes(locate(SHIPPED[1]).read_bytes())
    inputs = UserDataSource(file, SHIPPED[0], str(weights)).inputs
    changed = load_file(weights)
    next(iter(changed.values())).add_(1)
    save_file(changed, weights)
    monkeypatch.setattr(user_configs, "_MAX_SIDE", 32)  # as a GPU does
    other = UserDataSource(file, SHIPPED[0], str(weights)).inputs
    assert {name for name in inputs if inputs[name] != other[name]} == {"teacher weights", "image size"}


def test_both_students_train_on_full_batches_of_few_images(write_coco: Write) -> None:
    source = UserDataSource(write_coco(labelled=4, unlisted=9).parent, None, None)
    recipe = source.recipe(Path("out"), source.images)
    for config in (recipe.baseline, recipe.distilled):
        loader = copy.deepcopy(config.train_dataloader)
        loader.update(num_workers=0, persistent_workers=False, dataset=list(range(3)))
        batches = iter(Runner.build_dataloader(loader))
        assert [len(next(batches)) for _ in range(3)] == [loader.batch_size] * 3


def test_messages_show_the_numbers_of_images_and_that_the_teacher_is_weak(write_coco: Write) -> None:
    source = UserDataSource(write_coco(labelled=10, empty=3), None, None)
    images = dataclasses.astuple(source.images)
    assert sum(images) == 13
    first, second = source.messages
    assert f"{images[0]} labelled and 3 unlabelled training images, {images[2]} validation images" in first
    assert "2 classes: cat, dog." in first
    assert "WEAK" in second
    assert "--teacher-weights" in second
    assert source.advice == [second]


def test_messages_name_the_folders_that_are_not_used_the_largest_first(write_coco: Write) -> None:
    file = write_coco()
    for number, folder in enumerate(("a", "b", "c", "d", "e", "f/masks"), start=1):
        (file.parent / folder).mkdir(parents=True)
        for place in range(1001 if number == 6 else number):
            (file.parent / folder / f"{place}.png").touch()
    _, line, _ = UserDataSource(file.parent, None, None).messages
    assert line.startswith("Not used: 1,016 images in folders without any image that the JSON lists")
    assert ": f/masks (1,001), e (5), d (4), c (3), b (2) and 1 more. To train on some of them, " in line
    assert len(UserDataSource(file, None, None).messages) == 2
