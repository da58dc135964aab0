"""Generating the files on first use, the log message, and unknown arguments."""

from unittest import mock

import pytest

from ibkd_mm.datasets.shapes import ShapesDataset, build
from ibkd_mm.errors import UserError

SPEC = {"preset": "easy", "train": 3, "val": 2, "size": 64}


def _said(root, **kwargs):
    with mock.patch.object(build, "print_log") as log:
        made = ShapesDataset(str(root), spec=SPEC, pipeline=[], **kwargs)
    return made, [call.args[0] for call in log.call_args_list]


def test_it_makes_its_files_on_first_use_and_says_so(tmp_path):
    root = tmp_path / "shapes"
    first, said = _said(root)
    assert len(said) == 1
    assert said[0].startswith(f"Generated Shapes (easy, 3 + 2 images) in {root} in ")
    second, said = _said(root, split="val", test_mode=True)
    assert said == []
    assert (len(first), len(second)) == (3, 2)
    assert first.get_data_info(0)["img_path"] == f"{root}/train/000001.jpg"
    assert second.get_data_info(0)["img_path"] == f"{root}/val/000001.jpg"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "test"}, r"has the splits \('train', 'val'\), found split='test'"),
        ({"spec": {"sead": 1}}, r"spec has no 'sead'\. Did you mean 'seed'\? It has: preset, train, val, "),
    ],
)
def test_what_it_does_not_know_is_named_and_nothing_is_made(tmp_path, wrong, message):
    with pytest.raises(UserError, match=message):
        ShapesDataset(str(tmp_path / "shapes"), **wrong)
    assert list(tmp_path.iterdir()) == []
