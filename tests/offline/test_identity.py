"""All that entries depend on changes a cache's identity; what merely lies elsewhere does not."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config, ConfigDict

from ibkd_mm.errors import UserError
from ibkd_mm.offline import identity
from ibkd_mm.offline.identity import identity_of, kept, named, pictures_hash
from ibkd_mm.offline.store import check_same

PIPELINE = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": (160, 160)}, {"type": "PackDetInputs"}]
SETTINGS = {
    "instances": {"type": "ibkd_mm.QueryInstances", "score_thr": 0.2},
    "top": 5,
    "min_component_ratio": 0.2,
}


@pytest.fixture
def given(tmp_path: Path, teacher_config: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    (tmp_path / "weights.pth").write_bytes(b"weights")
    (tmp_path / "train.json").write_text('{"images": []}')
    return {
        "teacher": teacher_config(),
        "checkpoint": str(tmp_path / "weights.pth"),
        "pictures": tmp_path / "train.json",
        "pipeline": copy.deepcopy(PIPELINE),
        "settings": copy.deepcopy(SETTINGS),
        "classes": ["cat", "dog"],
    }


def _other_teacher(given: dict[str, Any]) -> None:
    given["teacher"]["panoptic_head"]["num_queries"] = 11


def _other_preprocessor(given: dict[str, Any]) -> None:
    given["teacher"]["data_preprocessor"]["mean"][1] += 1


def _other_weights(given: dict[str, Any]) -> None:
    Path(given["checkpoint"]).write_bytes(b"weightz")


def _other_annotations(given: dict[str, Any]) -> None:
    given["pictures"].write_text('{"images": [1]}')


def _other_size(given: dict[str, Any]) -> None:
    given["pipeline"][1]["scale"] = (160, 128)


def _fewer_classes(given: dict[str, Any]) -> None:
    given["settings"]["top"] = 4


def _other_threshold(given: dict[str, Any]) -> None:
    given["settings"]["instances"]["score_thr"] = 0.3


def _other_parts(given: dict[str, Any]) -> None:
    given["settings"] = kept({**given["settings"], "min_component_ratio": 0.3})


def _other_order(given: dict[str, Any]) -> None:
    given["classes"].reverse()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_other_teacher, "teacher"),
        (_other_preprocessor, "teacher"),
        (_other_weights, "weights"),
        (_other_annotations, "pictures"),
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
    with pytest.raises(UserError, match=rf"does not fit:\n  {name}: the cache has .*, wanted .*\nRemove it"):
        check_same(Path("a.sqlite"), before, after)
    check_same(Path("a.sqlite"), before, dict(before))


def test_of_many_classes_all_count_and_few_are_named() -> None:
    many = [f"class {number}" for number in range(80)]
    said = named(many)
    assert said.startswith("class 0, class 1, ")
    assert "class 10" not in said
    assert ", ... 80 in all, " in said
    assert named([*many[:-2], many[-1], many[-2]]) != said
    assert named(many[:2]) == "class 0, class 1"


def test_another_version_changes_it(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity_of(**given)
    old = identity.VERSION
    monkeypatch.setattr(identity, "VERSION", old + 1)
    with pytest.raises(UserError, match=f"version: the cache has {old}, wanted {old + 1}"):
        check_same(Path("a.sqlite"), before, identity_of(**given))


def test_where_files_lie_and_how_a_config_was_written_do_not(given: dict[str, Any], tmp_path: Path) -> None:
    before = identity_of(**given)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("checkpoint", "pictures"):
        moved = shutil.move(given[name], elsewhere / f"renamed {name}")
        given[name] = type(given[name])(moved)
    assert identity_of(**given) == before
    # a config's path, and mmengine's own kinds of lists and dictionaries
    written = elsewhere / "teacher.py"
    Config({"model": {"_scope_": "mmdet", **given["teacher"]}, "load_from": given["checkpoint"]}).dump(
        written
    )
    given.update(teacher=str(written), checkpoint=None, settings=ConfigDict(given["settings"]))
    given["pipeline"] = [ConfigDict(each, _scope_="mmdet") for each in given["pipeline"]]
    assert identity_of(**given) == before


def test_batch_size_and_path_do_not_count() -> None:
    settings = ConfigDict(**SETTINGS, path="a.sqlite", batch_size=16)
    assert kept(settings) == SETTINGS == kept({**settings, "path": "b", "batch_size": 1, "workers": 3})


def test_levels_count_where_masks_are_soft(given: dict[str, Any]) -> None:
    made = {
        levels: kept({**SETTINGS, "levels": levels}) for levels in ((0.5,), (0.25, 0.5), (0.25, 0.5, 0.75))
    }
    assert made[0.5,] == SETTINGS
    assert made[0.25, 0.5] == {**SETTINGS, "levels": [0.25, 0.5]}
    hard, soft, other = (identity_of(**{**given, "settings": each}) for each in made.values())
    for wanted, said in (
        (hard, "wanted .*'min_component_ratio': 0.2}"),
        (other, r"wanted .*'levels': \[0.25, 0.5, 0.75\]"),
    ):
        with pytest.raises(UserError, match=rf"settings: the cache has .*'levels': \[0.25, 0.5\].*{said}"):
            check_same(Path("a.sqlite"), soft, wanted)
    with pytest.raises(UserError, match=r"teacher_cache.levels of 1 to 16 .* found \(0.75, 0.25\). Set it"):
        kept({**SETTINGS, "levels": (0.75, 0.25)})


def test_of_a_folder_its_pictures_count(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "in/b.PNG"):
        (tmp_path / name).write_bytes(b"123")
    before = pictures_hash(tmp_path)
    (tmp_path / "teacher.sqlite").write_bytes(b"the cache itself may lie there")
    assert pictures_hash(tmp_path) == before
    (tmp_path / "in/b.PNG").write_bytes(b"1234")
    changed = pictures_hash(tmp_path)
    (tmp_path / "in/b.PNG").rename(tmp_path / "in/c.PNG")
    assert len({before, changed, pictures_hash(tmp_path)}) == 3
