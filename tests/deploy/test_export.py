"""Exported students: their content, parity with the model, and no file if the check fails."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from mmengine.config import Config

from ibkd_mm.apis.export import export
from ibkd_mm.deploy import export as export_module
from ibkd_mm.deploy import runtime
from ibkd_mm.deploy.average_precision import AveragePrecision, check_average_precision
from ibkd_mm.deploy.export import OPSET
from ibkd_mm.deploy.formats import open_model
from ibkd_mm.deploy.instance_parity import InstanceParity, Tolerance
from ibkd_mm.deploy.quantise import unquantised_nodes
from ibkd_mm.deploy.runtime import ModelInfo
from ibkd_mm.deploy.task import ExportSettings
from ibkd_mm.errors import UserError
from ibkd_mm.yolov10.export_graph import DeployedStudent

SHAPES = ["disc", "square", "triangle", "pentagon", "star", "cross", "ring", "crescent"]


def _shapes(path):
    model = onnx.load(path)
    return {
        value.name: [side.dim_value or side.dim_param for side in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_of_one_size_equals_the_model(exported):
    found = exported.checked.result
    assert isinstance(found, InstanceParity)
    assert found.passed
    assert (found.tolerance, found.missing) == (Tolerance(1e-4, 1e-4, 0.99), 0)
    assert found.instances > 200
    assert exported.checked.images == 4
    assert exported.exit_code == 0
    assert _names(exported.path.parent) == ["student.onnx"]
    onnx.checker.check_model(exported.path, full_check=True)
    assert _shapes(exported.path) == {
        "images": [1, 3, 64, 64],
        "boxes": [1, 84, 4],
        "scores": [1, 84],
        "labels": [1, 84],
        "masks": [1, 84, 16, 16],
    }
    assert [each.version for each in onnx.load(exported.path).opset_import if not each.domain] == [OPSET]


def test_metadata_of_a_file(exported):
    session = onnxruntime.InferenceSession(exported.path)
    entries = session.get_modelmeta().custom_metadata_map
    assert ModelInfo.read(entries) == ModelInfo(**exported.metadata)
    own = {
        name.removeprefix("ibkd_mm."): json.loads(value)
        for name, value in entries.items()
        if "ibkd_mm." in name
    }
    assert own["classes"] == SHAPES
    assert (own["size"], own["stride"], own["mask_stride"], own["dynamic"]) == ([64, 64], 32, 4, False)
    assert (own["score_threshold"], own["mask_threshold"], own["keep_ratio"]) == (0.001, 0.5, True)
    assert (own["pixels"], own["pad"], own["precision"]) == ("RGB, 0 to 255, float32", [114.0] * 3, "fp32")
    assert own["normalisation"] == "inside the graph: less [0.0, 0.0, 0.0], by [255.0, 255.0, 255.0]"


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (3, 3, 96, 32), (2, 3, 128, 160), (1, 3, 32, 32)])
def test_a_dynamic_file_equals_the_model_at_each_size(exported_dynamic, small_detector, shape):
    assert _shapes(exported_dynamic.path)["images"][1] == 3
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    found = open_model(exported_dynamic.path)(images)
    graph = DeployedStudent(small_detector, max_instances=100)
    with torch.no_grad():
        expected = dict(zip(graph.outputs, graph(torch.from_numpy(images)), strict=True))
    anchors = 21 * shape[2] * shape[3] // 32**2
    assert found["masks"].shape == (shape[0], min(100, anchors), shape[2] // 4, shape[3] // 4)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)
    np.testing.assert_allclose(found["boxes"][:, :10], expected["boxes"][:, :10], atol=1e-4 * max(shape[2:]))


def test_every_image_is_checked_in_a_batch_if_the_batch_size_is_dynamic(exported_dynamic, exported):
    assert exported_dynamic.checked.result.passed
    assert exported_dynamic.checked.result.instances > 1.9 * exported.checked.result.instances
    assert _names(exported_dynamic.path.parent) == ["runtime.py", "student.onnx"]
    written = exported_dynamic.path.with_name("runtime.py").read_text()
    assert written == Path(runtime.__file__).read_text()


def test_boxes_of_one_class_in_batches_of_two(exported_boxes):
    assert exported_boxes.checked.result.passed
    assert exported_boxes.metadata["classes"] == ["class 0"]
    assert _shapes(exported_boxes.path) == {
        "images": [2, 3, 64, 64],
        "boxes": [2, 20, 4],
        "scores": [2, 20],
        "labels": [2, 20],
    }


def test_half_precision_is_half_the_size_and_nearly_the_same(
    small_config, small_checkpoint, small_detector, exported, tmp_path
):
    done = export(
        small_config, small_checkpoint, str(tmp_path / "half.onnx"), settings=ExportSettings(half=True)
    )
    assert done.checked.result.passed
    assert 1e-6 < done.checked.result.boxes < 5e-3
    assert done.metadata == {**exported.metadata, "precision": "fp16"}
    weights = DeployedStudent(small_detector, max_instances=1).parameters()
    assert done.path.stat().st_size < 0.6 * 4 * sum(each.numel() for each in weights)
    weights = onnx.load(done.path).graph.initializer
    kernels = [each.data_type for each in weights if len(each.dims) == 4]
    assert set(kernels) == {onnx.TensorProto.FLOAT16}
    kinds = {value.name: value.type.tensor_type.elem_type for value in onnx.load(done.path).graph.output}
    assert kinds["boxes"] == kinds["masks"] == onnx.TensorProto.FLOAT


def test_int8_is_checked_by_its_average_precision(config, checkpoint, exported, tmp_path):
    settings = ExportSettings(int8=4, check_images=3)
    done = export(config, checkpoint, str(tmp_path / "int8.onnx"), settings=settings)
    found = done.checked.result
    assert isinstance(found, AveragePrecision)
    assert (found.name, done.checked.images) == ("segm_mAP", 3)
    assert 0 <= found.quantised <= 1
    assert done.path.stat().st_size < 0.4 * exported.path.stat().st_size
    model = onnx.load(done.path)
    makers = {output: node for node in model.graph.node for output in node.output}
    kept = set(unquantised_nodes(onnx.load(exported.path)))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    exact = [node for node in convolutions if makers.get(node.input[0]).op_type != "DequantizeLinear"]
    # three kinds of towers at three levels, and the prototypes
    assert {node.name for node in exact} <= kept
    assert len([node for node in convolutions if node.name in kept]) == 10
    assert len(convolutions) - len(exact) > 80
    assert len(open_model(done.path)(np.zeros((1, 3, 64, 64), np.float32))["scores"][0]) == 84


def test_openvino_predicts_the_same(config, checkpoint, tmp_path):
    done = export(config, checkpoint, str(tmp_path / "student.xml"), settings=ExportSettings(check_images=2))
    assert done.checked.result.passed
    assert (done.checked.images, _names(tmp_path)) == (2, ["student.bin", "student.xml"])
    model = openvino.Core().read_model(done.path)
    entries = {name: value.astype(str) for name, value in model.get_rt_info().items() if "ibkd_mm." in name}
    assert ModelInfo.read(entries) == ModelInfo(**done.metadata)


def test_without_data_it_is_checked_on_synthetic_images_and_says_so(config, checkpoint, tmp_path):
    ready = Config.fromfile(config)
    dataset = ready.test_dataloader.dataset
    for key in ("spec", "split"):
        dataset.pop(key)
    dataset.type, dataset.ann_file, dataset.metainfo = "mmdet.CocoDataset", "none.json", {"classes": SHAPES}
    done = export(ready, checkpoint, str(tmp_path / "a.onnx"), settings=ExportSettings(check_images=2))
    assert done.checked.result.passed
    assert done.metadata["classes"] == SHAPES
    assert "Checked on 2 synthetic images, as the config's dataset is missing:" in str(done)


def test_int8_without_data_cannot_be_checked_and_says_so(config):
    ready = Config.fromfile(config)
    dataset = ready.test_dataloader.dataset
    for key in ("spec", "split"):
        dataset.pop(key)
    dataset.type, dataset.ann_file = "mmdet.CocoDataset", "none.json"
    task = SimpleNamespace(config=ready, check_images=2)
    with pytest.raises(UserError, match=r"test data are missing: .*none\.json.*--no-check"):
        check_average_precision(None, None, task)


def test_a_file_that_differs_from_the_model_is_removed(boxes_config, boxes_checkpoint, tmp_path, monkeypatch):
    settings = ExportSettings(batch=2, max_instances=20)

    def other(path):
        forward = open_model(path)

        def wrong(images):
            found = forward(images)
            found["boxes"] = found["boxes"] + 0.01 * 64
            return found

        return wrong

    monkeypatch.setattr(export_module, "open_model", other)
    done = export(boxes_config, boxes_checkpoint, str(tmp_path / "a.onnx"), settings=settings)
    assert done.exit_code == 1
    assert done.checked.result.boxes == pytest.approx(0.01, abs=1e-4)
    assert f"{tmp_path / 'a.onnx'} was not written" in str(done)
    assert _names(tmp_path) == []
    settings = replace(settings, check=False)
    unchecked = export(boxes_config, boxes_checkpoint, str(tmp_path / "a.onnx"), settings=settings)
    assert (unchecked.exit_code, unchecked.checked, _names(tmp_path)) == (0, None, ["a.onnx"])
    assert str(unchecked).endswith("Not checked.")


def test_files_of_an_interrupted_export_are_removed(boxes_config, boxes_checkpoint, tmp_path, monkeypatch):
    stale = tmp_path / ".a.xml.partial"
    stale.mkdir()
    (stale / "a.bin").write_text("half")

    def stop(path):
        assert _names(stale) == ["a.bin", "a.xml", "parts"]
        assert (stale / "a.bin").stat().st_size > 1e6
        assert _names(tmp_path) == [stale.name]
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "open_model", stop)
    settings = ExportSettings(batch=2, max_instances=20)
    with pytest.raises(KeyboardInterrupt):
        export(boxes_config, boxes_checkpoint, str(tmp_path / "a.xml"), settings=settings)
    assert _names(tmp_path) == []


def test_nothing_is_overwritten(config, checkpoint, tmp_path):
    for name, settings in (("a.bin", ExportSettings()), ("runtime.py", ExportSettings(runtime=True))):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UserError, match=f"{name} already exists"):
            export(config, checkpoint, str(tmp_path / "a.xml"), settings=settings)
        assert _names(tmp_path) == [name]
        (tmp_path / name).unlink()
