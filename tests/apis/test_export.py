"""Input that export refuses before it traces anything."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from helpers import CONFIGS

from ibkd_mm import cli
from ibkd_mm.apis import load_config
from ibkd_mm.apis.export import Exported
from ibkd_mm.deploy.instance_parity import TOLERANCES, InstanceParity
from ibkd_mm.deploy.metadata import class_names, plan_export
from ibkd_mm.deploy.task import Checked, ExportSettings
from ibkd_mm.errors import UserError

STUDENT = CONFIGS / "yolov10" / "yolov10n-seg_shapes-hard.py"


def _refused(capsys, *arguments):
    assert cli.main(["export", *map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.fixture
def checkpoint(tmp_path):
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope("mmdet")
    torch.save({"state_dict": MODELS.build(load_config(STUDENT).model).state_dict()}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("mask_rcnn/mask_rcnn_r18_fpn_shapes.py", "MaskRCNN"),
        ("rtmdet/rtmdet-ins_tiny_shapes.py", "RTMDet"),
        ("mask2former/mask2former_tiny_shapes.py", "Mask2Former"),
    ],
)
def test_only_students_can_be_exported_and_the_others_are_named(capsys, tmp_path, config, name):
    said = _refused(capsys, CONFIGS / config, tmp_path / "none.pth", tmp_path / "a.onnx")
    assert f"{name} cannot be exported" in said
    assert "models of type ibkd_mm.YOLOv10" in said


def test_a_checkpoint_that_does_not_fit_is_refused(capsys, tmp_path, checkpoint):
    said = _refused(
        capsys, STUDENT, checkpoint, tmp_path / "a.onnx", "--cfg-options", "model.bbox_head.num_classes=3"
    )
    assert "does not fit" in said
    assert "another number of classes" in said
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_another_ending_is_refused(capsys, tmp_path):
    assert "ending in .onnx or .xml (OpenVINO), found a.engine" in _refused(
        capsys, STUDENT, "b.pth", "a.engine"
    )


@pytest.mark.parametrize(
    ("package", "out"), [("onnx", "a.onnx"), ("onnxruntime", "a.onnx"), ("openvino", "a.xml")]
)
def test_a_missing_package_is_named_with_how_to_get_it(capsys, monkeypatch, package, out):
    real = import_module("importlib").import_module

    def without(name, *rest):
        if name == package:
            raise ImportError(f"No module named '{name}'")
        return real(name, *rest)

    monkeypatch.setattr("ibkd_mm.utils.optional_packages.import_module", without)
    said = _refused(capsys, STUDENT, "b.pth", out)
    assert f"Export needs {package}" in said
    assert "pip install -r requirements/deploy.txt" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--size", "100", "160"],
            "from 32 to 32768. --size is 100 160; the nearest is --size 96 160",
        ),
        (["--size", "0", "64"], "the nearest is --size 32 64"),
        (["--max-instances", "301"], "the config has model.test_cfg.max_per_img=300"),
        (["--max-instances", "0"], "--max-instances of at least 1, found 0"),
        (["--half", "--int8", "4"], "--half and --int8"),
        (["--dynamic", "--batch", "2"], "--dynamic makes the batch size dynamic"),
        (["--int8", "-1"], "--int8 of at least 0"),
    ],
)
def test_invalid_settings_are_refused(capsys, tmp_path, checkpoint, flags, said):
    assert said in _refused(capsys, STUDENT, checkpoint, tmp_path / "a.onnx", *flags)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_the_size_is_that_of_the_test_pipeline_or_must_be_set():
    config = load_config(STUDENT)
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope("mmdet")
    graph = MODELS.build(config.model).export_graph()

    def size(**settings):
        return plan_export(graph, ExportSettings(**settings), config, []).metadata["size"]

    steps = config.test_dataloader.dataset.pipeline
    steps[1].scale = (96, 160)  # width and height, as mmdet has it
    assert size() == [160, 96]
    assert size(size=(64, 32)) == [64, 32]
    steps[1].scale = (100, 160)
    with pytest.raises(UserError, match="test pipeline is 160 100"):
        size()
    del steps[1]
    with pytest.raises(UserError, match="no Resize with a scale"):
        size()


def test_class_names_come_from_config_dataset_or_checkpoint():
    config = load_config(STUDENT)
    assert class_names(config, 8, None)[:2] == ["disc", "square"]
    dataset = config.test_dataloader.dataset
    dataset.metainfo = {"classes": ("cat",)}
    assert class_names(config, 1, None) == ["cat"]
    assert class_names(config, 2, {"dataset_meta": {"classes": ("a", "b")}}) == ["a", "b"]
    assert class_names(config, 2, None) == ["class 0", "class 1"]
    config.test_dataloader.dataset = {"type": "RepeatDataset", "dataset": dataset, "times": 2}
    assert class_names(config, 1, None) == ["cat"]


def test_a_failed_check_is_exit_code_1_and_says_so():
    failed = Checked(InstanceParity(TOLERANCES["fp32"], boxes=0.5, instances=3), 4, "images of here")
    done = Exported(Path("a.onnx"), None, failed)
    assert done.exit_code == 1
    assert str(done).startswith("Checked on 4 images of here:\n  instances  3 compared\n  boxes      5.0e-01")
    assert str(done).endswith("a.onnx was not written.")
