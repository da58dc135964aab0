"""The command and the call, from a config on disk to the exit code."""

import json
import os
from importlib import import_module
from pathlib import Path

import pytest

from ibkd_mm import cli
from ibkd_mm.apis import check
from ibkd_mm.errors import UserError

DATA = Path(os.environ.get("IBKD_DATA", "")) / "coco_mini"

SHAPES = """
spec = dict(preset='easy', train=3, val=2, size=64)
dataset = dict(type='ibkd_mm.ShapesDataset', data_root='shapes', spec=spec)
train_dataloader = dict(dataset=dict(split='train', **dataset))
val_dataloader = dict(dataset=dict(split='val', test_mode=True, **dataset))
test_dataloader = val_dataloader
"""

COCO = """
dataset = dict(
    type='CocoDataset', data_root={root!r}, ann_file='annotations/instances_val2017.json',
    data_prefix=dict(img='val2017/'), filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=[dict(type='LoadAnnotations', with_bbox=True, with_mask=True)])
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dataset))
"""


def test_healthy_data_are_exit_code_0(tiny, capsys):
    assert cli.main(["check", str(tiny), "--json", "out/found.json"]) == 0
    said = capsys.readouterr().out
    assert "train: CocoDataset of " in said
    assert "val, test: CocoDataset of " in said
    assert said.rstrip().endswith("Everything that was found: out/found.json")
    found = json.loads(Path("out/found.json").read_text())
    assert (found["errors"], [split["name"] for split in found["splits"]]) == (0, ["train", "val, test"])
    # That small set validates on what it trains on.
    kinds = [(f["kind"], f["count"]) for split in found["splits"] for f in split["findings"]]
    assert kinds == [("overlap-file", 8)]


def test_damage_is_exit_code_1_and_the_file_is_named(write_tiny, tmp_path, capsys):
    config = write_tiny(tmp_path)
    (tmp_path / "data/pictures/3.png").write_bytes(b"no picture")
    assert cli.main(["check", str(config)]) == 1
    said = capsys.readouterr().out
    assert "  error    image-undecodable                 1  the image file cannot be read or decoded" in said
    assert "image 3, 3.png: no decoder knows the format" in said
    assert "\n2 errors, 8 warnings, 0 notes\n" in said  # of both splits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope.py"], "There is no config nope.py."),
        (["{config}", "--workers", "0"], "Expected --workers of 1 or more, found 0."),
        (["{config}", "--json", "{folder}"], "cannot be written: Is a directory."),
        (
            ["{config}", "--cfg-options", "train_dataloader.dataset.type=CocoDatasett"],
            "Did you mean 'CocoDataset'?",
        ),
        (["ibkd_mm::_base_/default_runtime.py"], "names no data"),
    ],
)
def test_wrong_input_is_exit_code_2_and_one_message(tiny, tmp_path, arguments, message, capsys):
    words = [word.format(config=tiny, folder=tmp_path) for word in arguments]
    assert cli.main(["check", *words]) == 2
    said = capsys.readouterr().err
    assert "ibkd check: error: " in said
    assert message in said
    assert "Traceback" not in said


def test_options_are_in_force(tiny):
    result = check(tiny, options=["train_dataloader.dataset.data_prefix.img=nowhere/"])
    kinds = [finding.kind for finding in result.reports[0].findings]
    assert kinds == ["image-missing"] * 8
    assert result.exit_code == 1


def test_generated_data_are_made_and_found_healthy(tmp_path):
    (tmp_path / "shapes.py").write_text(SHAPES)
    result = check("shapes.py")
    assert [report.counts["images"] for report in result.reports] == [3, 2]
    assert (result.count("error"), result.count("warning")) == (0, 0)
    # Both splits number their pictures from 1.
    assert [(finding.kind, finding.file) for finding in result.reports[1].findings] == [
        ("overlap-name", "000001.jpg"),
        ("overlap-name", "000002.jpg"),
    ]


def test_a_file_that_cannot_be_written_is_said_before_anything_is_read(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("ibkd_mm.apis.check"), "check_datasets", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match="--json"):
        check(tiny, json_file=str(tmp_path))


@pytest.mark.skipif(not DATA.is_dir(), reason="IBKD_DATA names no folder with coco_mini")
def test_real_images_with_crowds_are_not_accused(tmp_path):
    config = tmp_path / "coco.py"
    config.write_text(COCO.format(root=f"{DATA}/"))
    result = check(config)
    (report,) = result.reports
    assert report.counts == {"images": 60, "annotations": 492, "crowds": 6, "categories": 80}
    assert (result.count("error"), result.count("warning")) == (0, 0)
    assert [(finding.kind, finding.image) for finding in report.findings] == [("image-unlabelled", 226111)]
