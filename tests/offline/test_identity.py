"""All that entries depend on changes a cache's identity; what merely lies elsewhere does not."""

import copy
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config, ConfigDict

from ibkd_mm.errors import UserError
from ibkd_mm.offline import CachedInstances, CacheReader, CacheWriter, InstanceCodec
from ibkd_mm.offline.identity import class_list, identity_of, images_hash, predictor_settings
from ibkd_mm.offline.store import check_same

PIPELINE = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": (160, 160)}, {"type": "PackDetInputs"}]
SETTINGS = {
    "instances": {"type": "ibkd_mm.QueryInstances", "score_thr": 0.2},
    "topk_classes": 5,
    "mask_thresholds": [0.5],
    "min_component_ratio": 0.2,
}


@pytest.fixture
def given(tmp_path: Path, teacher_config: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    (tmp_path / "weights.pth").write_bytes(b"weights")
    (tmp_path / "train.json").write_text('{"images": []}')
    return {
        "teacher": teacher_config(),
        "checkpoint": str(tmp_path / "weights.pth"),
        "images": tmp_path / "train.json",
        "pipeline": copy.deepcopy(PIPELINE),
        "teacher_cache": copy.deepcopy(SETTINGS),
        "classes": ["cat", "dog"],
    }


def _other_teacher(given: dict[str, Any]) -> None:
    given["teacher"]["panoptic_head"]["num_queries"] = 11


def _other_preprocessor(given: dict[str, Any]) -> None:
    given["teacher"]["data_preprocessor"]["mean"][1] += 1


def _other_weights(given: dict[str, Any]) -> None:
    Path(given["checkpoint"]).write_bytes(b"weightz")


def _other_annotations(given: dict[str, Any]) -> None:
    given["images"].write_text('{"images": [1]}')


def _other_size(given: dict[str, Any]) -> None:
    given["pipeline"][1]["scale"] = (160, 128)


def _fewer_classes(given: dict[str, Any]) -> None:
    given["teacher_cache"]["topk_classes"] = 4


def _other_threshold(given: dict[str, Any]) -> None:
    given["teacher_cache"]["instances"]["score_thr"] = 0.3


def _other_parts(given: dict[str, Any]) -> None:
    given["teacher_cache"]["min_component_ratio"] = 0.3


def _other_order(given: dict[str, Any]) -> None:
    given["classes"].reverse()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_other_teacher, "teacher"),
        (_other_preprocessor, "teacher"),
        (_other_weights, "weights"),
        (_other_annotations, "images"),
        (_other_size, "pipeline"),
        (_fewer_classes, "settings"),
        (_other_threshold, "settings"),
        (_other_parts, "settings"),
        (_other_order, "classes"),
    ],
)
def test_what_entries_depend_on_changes_it_and_is_named_where_it_is_refused(
    given: dict[str, Any], change: Callable[[dict[str, Any]], None], name: str
) -> None:
    before = identity_of(**given)
    change(given)
    after = identity_of(**given)
    assert {part for part in before if before[part] != after[part]} == {name}
    with pytest.raises(
        UserError, match=rf"does not fit:\n  {name}: the cache has .*, expected .*\nRemove it"
    ):
        check_same(Path("a.sqlite"), before, after)
    check_same(Path("a.sqlite"), before, dict(before))


def test_of_many_classes_all_count_and_few_are_class_list() -> None:
    many = [f"class {number}" for number in range(80)]
    said = class_list(many)
    assert said.startswith("class 0, class 1, ")
    assert "class 10" not in said
    assert ", ... 80 in all, " in said
    assert class_list([*many[:-2], many[-1], many[-2]]) != said
    assert class_list(many[:2]) == "class 0, class 1"


def test_another_version_changes_it(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity_of(**given)
    old = InstanceCodec.version
    monkeypatch.setattr(InstanceCodec, "version", old + 1)
    with pytest.raises(UserError, match=f"version: the cache has {old}, expected {old + 1}"):
        check_same(Path("a.sqlite"), before, identity_of(**given))


def test_where_files_lie_and_how_a_config_was_written_do_not(given: dict[str, Any], tmp_path: Path) -> None:
    before = identity_of(**given)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("checkpoint", "images"):
        moved = shutil.move(given[name], elsewhere / f"renamed {name}")
        given[name] = type(given[name])(moved)
    assert identity_of(**given) == before
    # a config's path, and mmengine's own kinds of lists and dictionaries
    written = elsewhere / "teacher.py"
    Config({"model": {"_scope_": "mmdet", **given["teacher"]}, "load_from": given["checkpoint"]}).dump(
        written
    )
    given.update(teacher=str(written), checkpoint=None, teacher_cache=ConfigDict(given["teacher_cache"]))
    given["pipeline"] = [ConfigDict(each, _scope_="mmdet") for each in given["pipeline"]]
    assert identity_of(**given) == before


def test_batch_size_and_path_do_not_count() -> None:
    settings = ConfigDict(**SETTINGS, path="a.sqlite", batch_size=16)
    other = {**settings, "path": "b", "batch_size": 1, "workers": 3}
    assert predictor_settings(settings) == SETTINGS == predictor_settings(other)


def test_thresholds_of_masks_count(given: dict[str, Any]) -> None:
    def made(*thresholds: float) -> dict[str, Any]:
        return identity_of(**{**given, "teacher_cache": {**SETTINGS, "mask_thresholds": thresholds}})

    hard, soft, other = made(0.5), made(0.25, 0.5), made(0.25, 0.5, 0.75)
    assert hard == identity_of(**given)
    for wanted in (hard, other):
        with pytest.raises(UserError, match=r"settings: the cache has .*\[0.25, 0.5\].*, expected "):
            check_same(Path("a.sqlite"), soft, wanted)
    with pytest.raises(UserError, match="mask_thresholds"):
        made(0.75, 0.25)


FORMER = {
    "teacher": "Mask2Former 1",
    "pictures": "2",
    "settings": {"instances": {"score_thr": 0.2}, "part_share": 0.2, "top": 5},
    "version": 4,
}


@pytest.mark.parametrize(
    ("settings", "thresholds"), [({}, [0.5]), ({"levels": [0.25, 0.5, 0.75]}, [0.25, 0.5, 0.75])]
)
def test_a_cache_with_the_former_names_is_read(
    path: Path, entry: Callable[..., Any], settings: dict[str, Any], thresholds: list[float]
) -> None:
    """Of hard masks its identity says nothing; the file is continued, not only read."""
    made = entry(1)
    masks = np.stack([made.masks] * len(thresholds))
    columns = made.boxes, made.scores, made.probabilities, masks, 5, tuple(thresholds)
    with CacheWriter(path, {**FORMER, "settings": {"mask_thresholds": thresholds}}) as writer:
        writer.write([("a", CachedInstances.of(*columns))])
    former = {**FORMER, "settings": {**FORMER["settings"], **settings}}
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("DELETE FROM identity")
        rows = [(name, json.dumps(value)) for name, value in former.items()]
        base.executemany("INSERT INTO identity VALUES (?, ?)", rows)
    with CacheReader(path) as reader:
        found = reader.find("a")
        identity = reader.identity
    assert found is not None
    assert np.array_equal(found[1].masks, made.masks)
    assert identity == {
        "teacher": "Mask2Former 1",
        "images": "2",
        "codec": "ibkd_mm.InstanceCodec",
        "version": 4,
        "settings": {
            "instances": {"score_thr": 0.2},
            "min_component_ratio": 0.2,
            "topk_classes": 5,
            "mask_thresholds": thresholds,
        },
    }
    with CacheWriter(path, identity) as writer:
        writer.write([("b", CachedInstances.of(*columns))])
    with CacheReader(path) as reader:
        assert reader.keys() == ["a", "b"]


def test_of_a_folder_its_pictures_count(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "in/b.PNG"):
        (tmp_path / name).write_bytes(b"123")
    before = images_hash(tmp_path)
    (tmp_path / "teacher.sqlite").write_bytes(b"the cache itself may lie there")
    assert images_hash(tmp_path) == before
    (tmp_path / "in/b.PNG").write_bytes(b"1234")
    changed = images_hash(tmp_path)
    (tmp_path / "in/b.PNG").rename(tmp_path / "in/c.PNG")
    assert len({before, changed, images_hash(tmp_path)}) == 3
