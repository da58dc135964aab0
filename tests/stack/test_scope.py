"""Configs of ours can be inherited and loaded as `ibkd_mm::...`."""

import pytest
from helpers import CONFIGS
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import METRICS, TRANSFORMS, DefaultScope

from ibkd_mm.stack import config_patches


def test_installing_twice_changes_nothing_else(monkeypatch):
    monkeypatch.delitem(MODULE2PACKAGE, "ibkd_mm")
    monkeypatch.setitem(MODULE2PACKAGE, "mmseg", "mmsegmentation")
    others = {name: package for name, package in MODULE2PACKAGE.items() if name != "mmseg"}
    find = Config._get_cfg_path
    config_patches.extend_inheritance()
    assert {**others, "ibkd_mm": "ibkd_mm", "mmseg": "mmseg"} == MODULE2PACKAGE
    assert Config._get_cfg_path is find


def test_an_mmseg_of_upstream_keeps_its_entry(monkeypatch):
    monkeypatch.setitem(MODULE2PACKAGE, "mmseg", "mmsegmentation")
    monkeypatch.setattr(config_patches, "find_spec", lambda name: object())
    config_patches.extend_inheritance()
    assert MODULE2PACKAGE["mmseg"] == "mmsegmentation"


def test_a_config_of_another_project_inherits_ours(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("_base_ = ['ibkd_mm::mask_rcnn/mask_rcnn_r18_fpn_shapes.py']\nmark = 7\n")
    ours = Config.fromfile(CONFIGS / "mask_rcnn/mask_rcnn_r18_fpn_shapes.py")
    got = Config.fromfile(mine)
    assert got.pop("mark") == 7
    assert got.to_dict() == ours.to_dict()


def test_an_inherited_config_of_ours_is_built_in_the_scope_of_the_child(tmp_path):
    """mmengine alone would look for mmdet's things in our scope, and find mmcv's LoadAnnotations."""
    mine = tmp_path / "mine.py"
    mine.write_text("_base_ = ['ibkd_mm::_base_/datasets/shapes_instance.py']\n")
    config = Config.fromfile(mine)
    with DefaultScope.overwrite_default_scope("mmdet"):
        load = TRANSFORMS.build(config.train_dataloader.dataset.pipeline[1])
        metric = METRICS.build({**config.val_evaluator, "ann_file": None})
    assert (type(load), load.with_mask) == (LoadAnnotations, True)
    assert metric.metrics == ["bbox", "segm"]
    assert "_scope_" not in str(config)


def test_a_missing_config_is_named(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("_base_ = ['ibkd_mm::_base_/nothing.py']\n")
    with pytest.raises(Exception, match=r"nothing\.py"):
        Config.fromfile(mine)


@pytest.mark.parametrize(
    ("base", "scope_of_it"),
    [
        ("mmdet::_base_/models/mask-rcnn_r50_fpn.py", "mmdet"),
        ("mmseg::_base_/models/segformer_mit-b0.py", "mmseg"),
    ],
)
def test_upstream_configs_keep_their_own_scope(tmp_path, base, scope_of_it):
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = ['{base}']\n")
    assert Config.fromfile(mine).model._scope_ == scope_of_it
