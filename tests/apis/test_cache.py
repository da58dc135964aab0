"""`ibkd cache` and the call behind it, with the shipped teacher on a few pictures."""

import copy
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from ibkd_mm import cli
from ibkd_mm.apis import load_config
from ibkd_mm.apis.cache import cache
from ibkd_mm.datasets.shapes.build import ShapesSpec, ensure_shapes
from ibkd_mm.engine.checkpoint.load import load_weights
from ibkd_mm.errors import UserError
from ibkd_mm.offline import CacheReader
from ibkd_mm.offline.info import CacheInfo, cache_info

CONFIG = "ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard.py"
SPEC = {"preset": "easy", "train": 5, "val": 1, "size": 64}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    ensure_shapes(root, ShapesSpec(**SPEC))
    return root


@pytest.fixture
def options(shapes: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "train_dataloader.dataset.data_root": str(shapes),
        "train_dataloader.dataset.spec": SPEC,
        "val_dataloader.dataset.pipeline.1.scale": (64, 64),
        "teacher_cache.path": str(tmp_path / "a.sqlite"),
        "teacher_cache.batch_size": 2,
    }


@pytest.fixture
def made(options: dict[str, Any]) -> CacheInfo:
    return cache(CONFIG, options=options)


def test_all_pictures_are_written_and_what_is_there_is_said(
    made: CacheInfo, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (made.images, made.verified, made.exit_code) == (5, None, 0)
    assert made.predictions > 5
    assert made == cache_info(made.path)
    with CacheReader(made.path) as reader:
        assert reader.keys() == ["1", "2", "3", "4", "5"]
    assert cli.main(["cache", "--info", str(made.path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-9].startswith(f"{made.path}: 5 images, {made.predictions} predictions, 0.0 MB, ")
    names = ["teacher", "weights", "images", "pipeline", "settings", "classes", "codec", "version"]
    assert sorted(line.split(":")[0].strip() for line in said[-8:]) == sorted(names)
    assert any(line.startswith("  teacher: Mask2Former ") for line in said)


def test_a_second_run_goes_on_and_verify_notices_what_was_changed(
    made: CacheInfo, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(made.path)) as base, base:
        base.execute("DELETE FROM pictures WHERE key IN ('2', '4')")
    capsys.readouterr()
    again = cache(CONFIG, options=options)
    assert f"{made.path}: 3 of 5 images are cached" in capsys.readouterr().out
    assert (again.images, again.predictions) == (made.images, made.predictions)
    checked = cache(CONFIG, options=options, check=5)
    assert checked.verified is not None
    assert (checked.verified.images, checked.exit_code) == (5, 0)
    with closing(sqlite3.connect(made.path)) as base, base:
        one, other = (
            base.execute("SELECT entry FROM pictures WHERE key = ?", key).fetchone() for key in "12"
        )
        base.execute("UPDATE pictures SET entry = ? WHERE key = '1'", other)
    assert one != other
    checked = cache(CONFIG, options=options, check=5)
    assert checked.exit_code == 1
    assert checked.verified is not None
    assert checked.verified.different == ["1"]


def test_of_soft_masks_levels_are_said_and_others_refused(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    soft = {**options, "teacher_cache.mask_thresholds": [0.25, 0.5, 0.75]}
    made = cache(CONFIG, options=soft)
    assert cli.main(["cache", "--info", str(made.path)]) == 0
    assert "'mask_thresholds': [0.25, 0.5, 0.75]" in capsys.readouterr().out
    checked = cache(CONFIG, options=soft, check=5)
    assert checked.exit_code == 0
    with pytest.raises(UserError, match=r"settings: the cache has .*\[0.25, 0.5, 0.75\].*, expected"):
        cache(CONFIG, options=options)
    with pytest.raises(UserError, match=r"mask_thresholds .* found \[0.5, 0.25\]"):
        cache(CONFIG, options={**soft, "teacher_cache.mask_thresholds": [0.5, 0.25]})


def test_a_folder_that_nobody_labelled(shapes: Path, options: dict[str, Any], tmp_path: Path) -> None:
    made = cache(CONFIG, options=options, images=str(shapes / "train"), out=str(tmp_path / "b.sqlite"))
    assert made.path == tmp_path / "b.sqlite"
    with CacheReader(made.path) as reader:
        assert reader.keys() == [f"00000{number}.jpg" for number in range(1, 6)]
    with pytest.raises(UserError, match="images: the cache has"):
        cache(CONFIG, options=options, out=str(made.path))
    assert cache_info(made.path) == made


@pytest.mark.parametrize("folder", [False, True])
def test_a_teacher_of_another_order_of_classes_writes_nothing(
    shapes: Path, options: dict[str, Any], tmp_path: Path, folder: bool
) -> None:
    config = load_config(CONFIG)
    weights = load_weights(config.model.teacher_ckpt)["state_dict"]
    meta = {"dataset_meta": {"classes": tuple("hgfedcba")}}
    torch.save({"state_dict": weights, "meta": meta}, tmp_path / "teacher.pth")
    config.model.teacher_ckpt = str(tmp_path / "teacher.pth")
    images = str(shapes / "train") if folder else None
    said = "trained on the classes h, g, f, e, d..., and the training set has disc, square"
    with pytest.raises(UserError, match=re.escape(said)):
        cache(config, options=options, images=images)
    assert not Path(options["teacher_cache.path"]).exists()


def test_a_config_is_left_as_it_is_and_one_of_other_weights_is_refused(
    made: CacheInfo, options: dict[str, Any]
) -> None:
    config = load_config(CONFIG)
    before = copy.deepcopy(config.to_dict())
    with pytest.raises(UserError, match="settings: the cache has"):
        cache(config, options={**options, "teacher_cache.topk_classes": 2})
    assert config.to_dict() == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["cache"], "or --info FILE."),
        (["cache", "--info", "none.sqlite"], "There is no teacher's cache none.sqlite."),
        (
            ["cache", "ibkd_mm::yolov10/yolov10n-seg_shapes.py"],
            "has no teacher to cache: expected a distillation's",
        ),
        (["cache", CONFIG, "--images", "none"], "in none, found none."),
        (["cache", CONFIG, "--images", "{folder}", "--out", "{folder}"], "found the folder {folder}."),
    ],
)
def test_wrong_input_is_exit_code_2_and_one_message(
    shapes: Path, command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shapes / "train"
    assert cli.main([word.format(folder=folder) for word in command]) == 2
    said = capsys.readouterr().err
    assert "ibkd cache: error: " in said
    assert message.format(folder=folder) in said
    assert "Traceback" not in said


def test_with_cuda_too_several_processes_join(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the joining is left to the runner, and no runner is built: each would write the whole."""

    class Joined(Exception):  # noqa: N818
        pass

    def join(launcher: str, **settings: Any) -> None:
        raise Joined(launcher, settings)

    monkeypatch.setattr("ibkd_mm.apis.cache.init_processes", lambda *_: None)
    monkeypatch.setattr("ibkd_mm.apis.cache.init_dist", join)
    with pytest.raises(Joined) as joined:
        cache(CONFIG, options=options, launcher="pytorch")
    assert joined.value.args == ("pytorch", {"backend": "nccl"})


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_reports_for_all(
    rank: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr("ibkd_mm.apis.cache.get_rank", lambda: rank)
    made = cache(CONFIG, options=options, progress=lambda done, total: shown.append((done, total)))
    assert made.images == 5
    assert shown == ([(2, 5), (4, 5), (5, 5)] if rank == 0 else [])


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, False),
        ({"default_hooks.bad_samples.share": 0.5}, True),
        ({"default_hooks.bad_samples": None}, True),
    ],
)
def test_unreadable_images_are_left_out_up_to_the_share_of_the_config(
    options: dict[str, Any], tmp_path: Path, changes: dict[str, Any], passes: bool
) -> None:
    root = tmp_path / "broken"
    ensure_shapes(root, ShapesSpec(**SPEC))
    for name in ("000002.jpg", "000004.jpg"):  # a limit is rounded up, so one is accepted in any case
        (root / "train" / name).write_bytes(b"no image")
    options = {**options, "train_dataloader.dataset.data_root": str(root), **changes}
    if passes:
        assert cache(CONFIG, options=options).images == 3
    else:
        with pytest.raises(UserError, match="2 images cannot be read"):
            cache(CONFIG, options=options)
