"""The runtime by itself: images fitted in, masks enlarged, and nothing else needed for it."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose

from ibkd_mm.deploy import runtime
from ibkd_mm.deploy.formats import to_entries
from ibkd_mm.deploy.runtime import Frame, Instance, InstanceSegmenter, ModelInfo
from ibkd_mm.yolov10.mask_paste import Frame as TorchFrame
from ibkd_mm.yolov10.mask_paste import paste_masks

INFO = ModelInfo(
    format=runtime.FORMAT,
    version="0",
    precision="fp32",
    classes=["cat", "dog"],
    size=[64, 96],
    dynamic=False,
    keep_ratio=True,
    stride=32,
    mask_stride=4,
    pixels="",
    normalisation="",
    pad=[1.0, 2.0, 3.0],
    score_threshold=0.001,
    mask_threshold=0.5,
)


def _image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_metadata_are_read_as_written():
    entries = to_entries(asdict(INFO))
    assert all(isinstance(value, str) for value in entries.values())
    assert ModelInfo.read({**entries, "another": "1"}) == INFO
    assert json.loads(entries["ibkd_mm.classes"]) == ["cat", "dog"]


def test_a_file_of_another_format_or_program_is_refused():
    with pytest.raises(ValueError, match="format 1, found 2"):
        ModelInfo.read({**to_entries(asdict(INFO)), "ibkd_mm.format": "2"})
    with pytest.raises(ValueError, match="`ibkd export` wrote"):
        ModelInfo.read({})


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [((64, 96), 64, 96), ((128, 96), 64, 48), ((30, 96), 30, 96), ((100, 300), 32, 96), ((1, 1), 64, 64)],
)
def test_an_image_is_fitted_into_a_fixed_size_and_padded(size, rows, columns):
    images, frame = runtime.letterbox(_image(*size), INFO)
    assert (images.shape, images.dtype) == ((1, 3, 64, 96), np.float32)
    assert frame == Frame(*size, (columns / size[1], rows / size[0]))
    for channel, fill in enumerate(INFO.pad):
        assert (images[0, channel, rows:] == fill).all()
        assert (images[0, channel, :, columns:] == fill).all()


@pytest.mark.parametrize("size", [(60, 80), (200, 96), (97, 131), (480, 640), (64, 96)])
def test_an_image_for_an_open_size_is_fitted_as_by_the_pipeline_of_the_test(size):
    """As mmdet's Resize and its preprocessor make it of the same image, channels aside."""
    info, image = replace(INFO, dynamic=True, size=[96, 96]), _image(*size)
    resize = Compose([{"type": "mmdet.Resize", "scale": (96, 96), "keep_ratio": True}])
    expected = resize({"img": image})
    images, frame = runtime.letterbox(image, info)
    rows, columns = expected["img_shape"]
    assert images.shape[2:] == (-(-rows // 32) * 32, -(-columns // 32) * 32)
    np.testing.assert_array_equal(images[0, :, :rows, :columns], expected["img"].transpose(2, 0, 1))
    assert frame.scale == pytest.approx(expected["scale_factor"])


@pytest.mark.parametrize("size", [(50, 60), (100, 33), (11, 200)])
def test_numpy_resizes_as_opencv_does(size, monkeypatch):
    image = cv2.GaussianBlur(_image(*size), (5, 5), 2)
    expected = runtime.resize(image, 64, 48).astype(int)
    np.testing.assert_array_equal(expected, mmcv.imresize(image, (48, 64)))
    monkeypatch.setattr(runtime, "_optional", lambda module: None)
    assert np.abs(runtime.resize(image, 64, 48) - expected).max() <= 1


def test_the_aspect_ratio_need_not_be_kept():
    images, frame = runtime.letterbox(_image(32, 192), replace(INFO, keep_ratio=False))
    assert frame.scale == (0.5, 2.0)
    assert images.shape == (1, 3, 64, 96)


def test_an_array_that_is_not_an_image_is_refused():
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"\(height, width, 3\) uint8"):
            runtime.letterbox(wrong, INFO)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_masks_are_enlarged_as_by_the_model(height, width, seed):
    draws = np.random.default_rng(seed)
    scale = tuple(draws.uniform(0.3, 3, 2).tolist())
    logits = draws.normal(0, 3, (5, 16, 24)).astype(np.float32)
    corners = draws.uniform(-5, 95, (5, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).clip(0, [width, height] * 2)
    boxes = boxes.astype(np.float32)
    found = runtime.enlarge(logits, boxes, Frame(height, width, scale), INFO)
    shares, torch_boxes = torch.from_numpy(logits).sigmoid(), torch.from_numpy(boxes)
    frame = TorchFrame(width, height, scale)
    expected = paste_masks(shares, torch_boxes, frame, stride=4, threshold=0.5, chunk=1).numpy()
    # a share that is the threshold but for rounding may fall to either side
    assert (found != expected).sum() <= 1


def test_instances_are_the_best_ones_in_the_images_own_pixels():
    outputs = {
        "boxes": np.array([[10, 10, 30, 50], [-5, 0, 300, 20], [0, 0, 1, 1]], np.float32),
        "scores": np.array([0.9, 0.5, 0.3], np.float32),
        "labels": np.array([1, 0, 0]),
        "masks": np.full((3, 16, 24), 50.0, np.float32),
    }
    found = runtime.to_instances(outputs, Frame(128, 96, (0.5, 0.5)), INFO, 0.3)
    assert [(each.name, each.label, round(each.score, 6)) for each in found] == [
        ("dog", 1, 0.9),
        ("cat", 0, 0.5),
    ]
    np.testing.assert_array_equal(found[0].box, [20, 20, 60, 100])
    np.testing.assert_array_equal(found[1].box, [0, 0, 96, 40])
    assert found[0].mask is not None
    assert found[0].mask.shape == (128, 96)
    assert (found[0].mask.sum(), found[0].mask[20:100, 20:60].sum()) == (40 * 80, 40 * 80)
    none = runtime.to_instances(outputs, Frame(128, 96, (0.5, 0.5)), INFO, 0.95)
    assert none == []
    del outputs["masks"]
    assert runtime.to_instances(outputs, Frame(128, 96, (0.5, 0.5)), INFO, 0.3)[0].mask is None


def test_drawing_colours_the_masks_and_nothing_else():
    image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool)
    mask[2:4, 2:6] = True
    instance = Instance(np.array([2, 2, 6, 4]), 0.9, 0, "cat", mask)
    drawn = runtime.draw(image, [instance])
    np.testing.assert_array_equal(drawn.any(axis=2), mask)
    outlined = runtime.draw(image, [replace(instance, mask=None, box=np.array([0.0, 0, 8, 8]))])
    assert outlined.any(axis=2).sum() == 64 - 16


_BLOCKED = """
import runpy, sys

blocked = {"torch", "mmengine", "mmcv", "mmdet", "mmseg", "mmrazor", "ibkd_mm", *sys.argv[1].split(",")}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} was asked for")

sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _alone(place, blocked, *arguments):
    command = [sys.executable, "-c", _BLOCKED, blocked, "runtime.py", *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True)


@pytest.mark.parametrize("blocked", ["", "cv2", "PIL"])
def test_the_runtime_runs_where_there_is_neither_torch_nor_openmmlab(exported_dynamic, tmp_path, blocked):
    place = exported_dynamic.path.parent
    image = _image(48, 64)
    cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
    drawn = tmp_path / "drawn.png"
    done = _alone(
        place, blocked, "student.onnx", str(tmp_path / "image.png"), "--score", "0.2", "--out", str(drawn)
    )
    assert (done.returncode, done.stderr) == (0, "")
    segmenter = InstanceSegmenter(exported_dynamic.path, score=0.2)
    expected = segmenter(image)
    assert len(expected) > 3
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [f"{each.score:.3f}", each.name] for each in expected
    ]
    np.testing.assert_array_equal(runtime.read_image(drawn), runtime.draw(image, expected))


def test_the_command_says_what_is_wrong(exported_dynamic, tmp_path):
    place = exported_dynamic.path.parent
    done = _alone(place, "", "student.onnx", "no.png")
    assert (done.returncode, done.stderr) == (2, "error: There is no image no.png.\n")
    (tmp_path / "a.png").write_text("no image")
    done = _alone(place, "cv2,PIL", "student.onnx", str(tmp_path / "a.png"))
    assert "needs OpenCV or Pillow" in done.stderr
    done = _alone(place, "", "none.onnx", __file__)
    assert (done.returncode, done.stderr) == (2, f"error: {__file__} is not an image that can be read.\n")


@pytest.mark.parametrize("without", ["", "cv2"])
def test_files_that_cannot_be_used_are_named_by_whichever_reads_them(without, tmp_path, monkeypatch, capsys):
    """With OpenCV and with Pillow, whose errors are of other types."""
    real = runtime._optional
    monkeypatch.setattr(runtime, "_optional", lambda name: None if name == without else real(name))
    image, text = tmp_path / "image.png", tmp_path / "text.png"
    runtime.write_image(image, _image(9, 7))
    text.write_text("no image")
    cut = tmp_path / "cut.png"
    cut.write_bytes(image.read_bytes()[:20])
    for arguments, said in (
        (["none.onnx", text], f"{text} is not an image that can be read."),
        (["none.onnx", cut], f"{cut} is not an image that can be read."),
        (["none.onnx", image], "There is no model none.onnx."),
        ([text, image], f"{text} is not a model that onnxruntime can run: "),
    ):
        assert runtime.main(list(map(str, arguments))) == 2
        assert capsys.readouterr().err.startswith(f"error: {said}")
    for name in ("image.nothing", "none/image.png"):
        with pytest.raises(ValueError, match=f"{name} cannot be written: "):
            runtime.write_image(tmp_path / name, _image(9, 7))


@pytest.mark.parametrize("size", [(64, 64), (50, 64), (90, 60)])
def test_the_runtime_finds_what_the_model_predicts(exported_dynamic, small_detector, size):
    """As `ibkd test` runs it: the pipeline of the test, the preprocessor, and predict."""
    image = cv2.GaussianBlur(_image(*size), (9, 9), 3)
    resize = Compose([{"type": "mmdet.Resize", "scale": (64, 64), "keep_ratio": True}])
    data = resize({"img": image[..., ::-1].copy()})
    sample = DetDataSample(
        metainfo={"ori_shape": size, "img_shape": data["img_shape"], "scale_factor": data["scale_factor"]}
    )
    inputs = [torch.from_numpy(data["img"].transpose(2, 0, 1).copy())]
    with torch.no_grad():
        (predicted,) = small_detector.test_step({"inputs": inputs, "data_samples": [sample]})
    expected = predicted.pred_instances[:100]
    found = InstanceSegmenter(exported_dynamic.path, score=0.001)(image)
    assert len(found) == len(expected) > 20
    np.testing.assert_allclose([each.score for each in found], expected.scores, atol=1e-5)
    assert [each.label for each in found] == expected.labels.tolist()
    np.testing.assert_allclose(np.stack([each.box for each in found]), expected.bboxes, atol=1e-3)
    masks = np.stack([each.mask for each in found])
    assert 0.02 < masks.mean() < 0.9
    assert (masks == expected.masks.numpy()).mean() >= 0.999


def test_a_file_for_several_images_is_refused(exported_boxes):
    with pytest.raises(ValueError, match="batch size 1, found batch size 2"):
        InstanceSegmenter(exported_boxes.path)


def test_the_runtime_is_one_file_that_imports_no_other_of_the_project():
    text = Path(runtime.__file__).read_text()
    imports = {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))
    }
    assert imports - set(sys.stdlib_module_names) == {"numpy"}
