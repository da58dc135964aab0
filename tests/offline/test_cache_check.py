"""A cache of something else stops the run before its first step; what it lacks is said."""

import copy
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, HOOKS, DefaultScope

from ibkd_mm.apis import load_config
from ibkd_mm.datasets.shapes.build import ShapesSpec, ensure_shapes
from ibkd_mm.engine.seeded_samples import SeededDataset
from ibkd_mm.errors import UserError
from ibkd_mm.offline import CachedInstances, CacheWriter
from ibkd_mm.offline.cache_check import CacheCheckHook
from ibkd_mm.offline.identity import identity_of
from ibkd_mm.offline.images import test_pipeline as pipeline_of
from ibkd_mm.offline.images import training_classes

CACHED = "ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard_cached.py"
GOES_ON = ". `ibkd cache` continues where it stopped."
SPEC = {"preset": "easy", "train": 4, "val": 1, "size": 64}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    ensure_shapes(root, ShapesSpec(**SPEC))
    return root


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> Config:
    """The shipped config, with four pictures and a cache of its own."""
    made = load_config(CACHED)
    dataset = made.train_dataloader.dataset
    dataset.update(data_root=str(shapes), spec=SPEC)
    made.teacher_cache.path = str(tmp_path / "a.sqlite")
    for each in dataset.pipeline:
        if "cache" in each:
            each.cache = made.teacher_cache.path
    return made


@pytest.fixture
def write(config: Config, shapes: Path) -> Callable[[Sequence[int]], None]:
    """Write the config's own cache, of some pictures in which nothing is seen."""

    def write(keys: Sequence[int], source: Path = shapes / "annotations" / "train.json") -> None:
        teacher = config.model.teacher, config.model.teacher_ckpt
        settings = config.teacher_cache
        identity = identity_of(*teacher, source, pipeline_of(config), settings, training_classes(config))
        with CacheWriter(Path(config.teacher_cache.path), identity) as writer:
            writer.write((str(key), NOTHING) for key in keys)

    return write


def _nothing() -> CachedInstances:
    empty = np.zeros(0, np.float32)
    return CachedInstances.of(
        empty.reshape(0, 4), empty, empty.reshape(0, 8), np.zeros((0, 64, 64), np.uint8), 5
    )


NOTHING = _nothing()


def check(
    config: Config, dataset: Any = None, within: Callable[[Any], Any] = lambda it: it, **settings: Any
) -> None:
    with DefaultScope.overwrite_default_scope("mmdet"):
        built = DATASETS.build(copy.deepcopy(dataset or config.train_dataloader.dataset))
        runner = SimpleNamespace(
            cfg=config,
            train_dataloader=SimpleNamespace(dataset=within(built)),
            logger=logging.getLogger("cache_check"),
        )
        HOOKS.build({**config.default_hooks.cache_check, **settings}).before_train(runner)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give what was said, without what to do."""
    return [record.message.removesuffix(GOES_ON) for record in caplog.records]


def test_the_configs_own_cache_is_taken_and_what_it_lacks_is_said(
    config: Config, write: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(HOOKS.build(config.default_hooks.cache_check), CacheCheckHook)
    caplog.set_level(logging.INFO, "cache_check")
    write([1, 3, 4])
    check(config)
    first, second = (record.message for record in caplog.records)
    assert first == f"{config.teacher_cache.path}: predictions of 3 images."
    assert second.startswith("1 of 4 training images are not among them")
    caplog.clear()
    write([2])
    check(config)
    assert [record.message for record in caplog.records] == [
        f"{config.teacher_cache.path}: predictions of 4 images."
    ]


def test_the_classes_of_another_order_are_refused(config: Config, write: Callable) -> None:
    """The teacher's rows would be taken for other classes."""
    write([1, 2, 3, 4])
    first, second, *others = training_classes(config)
    config.train_dataloader.dataset.metainfo = {"classes": (second, first, *others)}
    said = f"classes: the cache has {first}, {second}, .*, expected {second}, {first}"
    with pytest.raises(UserError, match=said):
        check(config)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("model.teacher_ckpt", "{other}", "weights"),
        ("val_dataloader.dataset.pipeline.1.scale", (128, 128), "pipeline"),
        ("teacher_cache.top", 3, "settings"),
        ("train_dataloader.dataset.ann_file", "{other}", "images"),
    ],
)
def test_a_cache_of_something_else_is_refused_by_name(
    config: Config, write: Callable, tmp_path: Path, key: str, value: Any, named: str
) -> None:
    write([1, 2, 3, 4])
    other = tmp_path / "other.json"
    picture = {"id": 1, "file_name": "000001.jpg", "width": 64, "height": 64}
    other.write_text(json.dumps({"images": [picture], "annotations": [], "categories": []}))
    built = copy.deepcopy(config.train_dataloader.dataset)
    named_alike = {"classes": training_classes(config)}
    config.merge_from_dict({key: str(other) if value == "{other}" else value})
    if named == "images":  # the training set itself
        dataset = config.train_dataloader.dataset
        for name in ("spec", "split"):
            dataset.pop(name)
        dataset.update(type="CocoDataset", data_prefix={"img": "train/"}, metainfo=named_alike)
        dataset.filter_cfg = None
        built = dataset
    with pytest.raises(UserError, match=rf"a.sqlite does not fit:\n  {named}: the cache has .*\nRemove it"):
        check(config, built)


def test_a_cache_of_a_folder_is_of_no_annotation_file(
    config: Config, write: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor need there be one: the data set may join several."""
    (tmp_path / "a.jpg").touch()
    write(["a.jpg"], source=tmp_path)
    with pytest.raises(UserError, match="images: the cache has"):
        check(config)
    joined = {"type": "ConcatDataset", "datasets": [config.train_dataloader.dataset] * 2}
    config.train_dataloader.dataset = joined
    caplog.set_level(logging.INFO, "cache_check")
    check(config, images=False)
    assert said(caplog) == [
        f"{config.teacher_cache.path}: predictions of 1 images.",
        "8 of 8 training images are not among them and are trained on without the teacher",
    ]
    config.teacher_cache.top = 3
    with pytest.raises(UserError, match="settings: the cache has"):
        check(config, images=False)


def test_the_transform_is_found_inside_others_and_missed_where_it_is_not(
    config: Config, write: Callable
) -> None:
    write([1, 2, 3, 4])
    dataset = config.train_dataloader.dataset
    load, annotate, riders, *rest = dataset.pipeline
    dataset.pipeline = [load, {"type": "Compose", "transforms": [annotate, riders]}]
    mixed = {"type": "MultiImageMixDataset", "dataset": dataset, "pipeline": rest}
    check(config, mixed)
    dataset.pipeline = [load, annotate]
    with pytest.raises(UserError, match=r"finds no LoadTeacherInstances in train_dataloader\.dataset"):
        check(config, mixed)


@pytest.fixture
def bare(config: Config) -> dict[str, Any]:
    """The config's pictures, as if nobody had labelled them."""
    dataset = copy.deepcopy(config.train_dataloader.dataset.to_dict())
    load, _, riders, *rest = dataset["pipeline"]
    dataset["pipeline"] = [
        load,
        {"type": "ibkd_mm.NoAnnotations"},
        {**riders, "pseudo_label_thr": 0.5},
        *rest,
    ]
    return dataset


def wrapped(labelled: dict[str, Any], unlabelled: dict[str, Any]) -> dict[str, Any]:
    """Repeat the labelled ones, join both and mix them."""
    often = {"type": "RepeatDataset", "times": 3, "dataset": labelled}
    joined = {"type": "ConcatDataset", "datasets": [often, unlabelled]}
    return {"type": "MultiImageMixDataset", "dataset": joined, "pipeline": [{"type": "ibkd_mm.HSVJitter"}]}


def test_pictures_that_are_left_out_are_counted_apart_each_once(
    config: Config, write: Callable, bare: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cache_check")
    write([3])
    labelled = {**config.train_dataloader.dataset.to_dict(), "indices": 1}
    whole = wrapped(labelled, {**bare, "indices": [1, 2, 3]})
    check(config, whole)
    assert said(caplog) == [
        f"{config.teacher_cache.path}: predictions of 1 images.",
        "1 of 1 training images are not among them and are trained on without the teacher",
        "2 of 3 training images without labels are not among them and are left out",
    ]
    caplog.clear()
    write([1, 2, 4])
    check(config, whole)
    assert said(caplog) == [f"{config.teacher_cache.path}: predictions of 4 images."]


def test_of_what_was_labelled_only_pictures_without_instances_are_left_out(
    config: Config, write: Callable, shapes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows whether somebody has looked at them."""
    caplog.set_level(logging.INFO, "cache_check")
    annotated = json.loads((shapes / "annotations" / "train.json").read_text())
    annotated["annotations"] = [each for each in annotated["annotations"] if each["image_id"] in (1, 2)]
    (file := tmp_path / "two.json").write_text(json.dumps(annotated))
    write([], source=file)
    dataset = config.train_dataloader.dataset
    load, annotate, riders, *rest = dataset.pipeline
    dataset.pipeline = [load, annotate, {**riders, "pseudo_label_thr": 0.5}, *rest]
    for name in ("spec", "split"):
        dataset.pop(name)
    dataset.update(type="CocoDataset", ann_file=str(file), data_prefix={"img": "train/"}, filter_cfg={})
    dataset.metainfo = {"classes": tuple(each["name"] for each in annotated["categories"])}
    check(config)
    assert said(caplog)[1:] == [
        "2 of 2 training images are not among them and are trained on without the teacher",
        "2 of 2 training images without labels are not among them and are left out",
    ]


def test_a_part_without_labels_of_which_the_teacher_saw_nothing_is_refused(
    config: Config, write: Callable, bare: dict[str, Any]
) -> None:
    write([1])
    labelled = {**config.train_dataloader.dataset.to_dict(), "indices": 1}
    with pytest.raises(UserError) as caught:
        check(config, wrapped(labelled, {**bare, "indices": [1, 2, 3]}))
    assert "Expected 2, 3, 4, found 1. Write them: ibkd cache" in str(caught.value)


def test_pictures_of_which_nothing_is_taken_for_true_are_refused(
    config: Config, write: Callable, bare: dict[str, Any]
) -> None:
    write([1, 2, 3, 4])
    check(config, bare)
    del bare["pipeline"][2]["pseudo_label_thr"]
    with pytest.raises(
        UserError, match=r"LoadTeacherInstances without pseudo_label_thr: .* Set pseudo_label_thr=0\.5"
    ):
        check(config, bare)


def test_a_folder_within_the_folder_that_was_cached_is_refused(
    config: Config, write: Callable, bare: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its pictures go by other names; so do those of a folder around it, but for some."""
    caplog.set_level(logging.INFO, "cache_check")
    names = [f"new/{number}.png" for number in range(5)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write(names[1:], source=tmp_path)
    folder = {"type": "ibkd_mm.ImageFolder", "data_root": f"{tmp_path}/new", "pipeline": bare["pipeline"]}

    def drawn(dataset: Any) -> SeededDataset:
        return SeededDataset(dataset, seed=0, rank=0, error_log=tmp_path / "faults")

    with pytest.raises(UserError) as caught:
        check(config, folder, within=drawn, images=False)
    assert "Expected 0.png, 1.png, 2.png, ..., found new/1.png, new/2.png" in str(caught.value)
    assert f"ibkd cache CONFIG --images {tmp_path}/new --out FILE" in str(caught.value)
    check(config, {**folder, "data_root": str(tmp_path)}, within=drawn, images=False)
    assert said(caplog)[-1] == "1 of 5 training images without labels are not among them and are left out"
