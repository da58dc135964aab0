"""`ibkd_mm.apis.test`."""

import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.models import DetTTAModel
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import save_file

from ibkd_mm.apis import TrainResult
from ibkd_mm.apis import test as evaluate
from ibkd_mm.engine import load_weights
from ibkd_mm.errors import UserError

_ALL_DRAWN = ["default_hooks.visualization.score_thr=0.0"]


def _average_precision(tiny: Path, predictions: list[dict]) -> float:
    """Score a file of predictions with pycocotools alone."""
    truth = COCO(tiny.parent / "data" / "boxes.json")
    boxes = []
    for one in predictions:
        found = one["pred_instances"]
        for (left, top, right, bottom), score in zip(
            found["bboxes"].tolist(), found["scores"].tolist(), strict=True
        ):
            box = [left, top, right - left, bottom - top]
            boxes.append({"image_id": one["img_id"], "category_id": 1, "bbox": box, "score": score})
    scored = COCOeval(truth, truth.loadRes(boxes), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    return float(scored.stats[0])


def test_it_measures_and_writes_the_predictions(tiny: Path, trained: TrainResult) -> None:
    result = evaluate(tiny, str(trained.last), out="made/by/it/found.pkl", work_dir="run")
    with open("made/by/it/found.pkl", "rb") as file:
        predictions = pickle.load(file)
    assert [one["img_id"] for one in predictions] == list(range(8))
    assert result.metrics["coco/bbox_mAP"] == pytest.approx(_average_precision(tiny, predictions), abs=6e-4)
    assert result.files == {"predictions": Path("made/by/it/found.pkl")}
    assert f"  coco/bbox_mAP     {result.metrics['coco/bbox_mAP']:.4f}" in str(result)
    log = next(result.log_dir.glob("*.log")).read_text()
    assert "[1/4]" in log
    assert "eta: 0:00:0" in log


def test_half_precision_safetensors_evaluate_like_the_weights_they_came_from(
    tiny: Path, trained: TrainResult
) -> None:
    weights = load_weights(str(trained.last))["state_dict"]
    save_file({name: value.half().contiguous() for name, value in weights.items()}, "half.safetensors")
    torch.save({"state_dict": {name: value.half().float() for name, value in weights.items()}}, "same.pth")
    half = evaluate(tiny, "half.safetensors", work_dir="half")
    assert half.metrics == evaluate(tiny, "same.pth", work_dir="same").metrics


def test_images_are_drawn_into_the_run_or_an_absolute_path(
    tiny: Path, trained: TrainResult, tmp_path: Path
) -> None:
    relative = evaluate(tiny, str(trained.last), show_dir="drawn", work_dir="run", options=_ALL_DRAWN)
    absolute = evaluate(
        tiny, str(trained.last), show_dir=str(tmp_path / "abs"), work_dir="r2", options=_ALL_DRAWN
    )
    assert relative.files["images"] == relative.log_dir / "drawn"
    assert absolute.files["images"] == tmp_path / "abs"
    names = sorted(f"{index}.png" for index in range(8))
    for result in (relative, absolute):
        assert sorted(found.name for found in result.files["images"].iterdir()) == names
    drawn = cv2.imread(str(tmp_path / "abs" / "0.png"))
    original = cv2.imread(str(tiny.parent / "data" / "pictures" / "0.png"))
    assert np.abs(drawn[:, -64:].astype(int) - original).max() > 50  # boxes are on the right half


def test_flipping_merges_each_image_with_its_mirror_image(
    tiny: Path, trained: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, merge = [], DetTTAModel.merge_preds

    def noted(model: DetTTAModel, samples: list) -> list:
        views.extend(
            [(one.img_id, one.flip, one.pred_instances.bboxes.clone()) for one in of] for of in samples
        )
        assert model.tta_cfg == {"nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 7}
        return merge(model, samples)

    monkeypatch.setattr(DetTTAModel, "merge_preds", noted)
    options = ["model.test_cfg.max_per_img=7"]
    evaluate(tiny, str(trained.last), out="tta.pkl", tta=True, work_dir="tta", options=options)
    assert [[view[:2] for view in of] for of in views] == [[(i, True), (i, False)] for i in range(8)]
    with open("tta.pkl", "rb") as file:
        merge_groups = pickle.load(file)
    for (mirrored, plain), one in zip(views, merge_groups, strict=True):
        left, top, right, bottom = mirrored[2].unbind(1)
        there = torch.cat([torch.stack([64 - right, top, 64 - left, bottom], 1), plain[2]])
        boxes = one["pred_instances"]["bboxes"]
        assert len(boxes) == 7
        assert (torch.cdist(boxes, there).min(1).values < 1e-3).all()
        assert not (torch.cdist(boxes, plain[2]).min(1).values < 1e-3).all()  # some are the mirror's


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mask_rcnn/mask_rcnn_r18_fpn_shapes.py", [], "--tta cannot merge instance masks"),
        ("mask2former/mask2former_tiny_shapes.py", [], "--tta cannot merge instance masks"),
        (
            None,
            ["model.test_cfg.nms=None"],
            "by the nms and max_per_img of model.test_cfg, and this model has",
        ),
    ],
)
def test_what_cannot_be_merged_is_an_error(
    tiny: Path, name: str | None, options: list[str], message: str
) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}}, "any.pth")
    with pytest.raises(UserError, match=message):
        evaluate(f"ibkd_mm::{name}" if name else tiny, "any.pth", tta=True, options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out": "found.json"}, "--out writes a pickle: expected a name ending in .pkl, found 'found.json'"),
        (
            {"show_dir": "x", "options": {"default_hooks": {"visualization": None}}},
            "need a visualization hook",
        ),
        ({"options": ["model.bbox_head.num_classes=3"]}, "of another shape: 2 (bbox_head.retina_cls x2)"),
        ({"launcher": "pytorch"}, "expected the launcher to set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR"),
        ({"launcher": "ssh"}, "found 'ssh'"),
    ],
)
def test_what_cannot_be_done_is_an_error(
    tiny: Path, trained: TrainResult, arguments: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as error:
        evaluate(tiny, str(trained.last), **arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"hello", "is neither a zip archive nor a pickle"),
        (None, "There is no checkpoint given.pth."),
    ],
)
def test_a_file_that_is_no_checkpoint_is_recognised(contents: bytes | None, message: str, tiny: Path) -> None:
    if contents is not None:
        Path("given.pth").write_bytes(contents)
    with pytest.raises(UserError) as error:
        evaluate(tiny, "given.pth")
    assert message in str(error.value)


def test_images_of_two_runs_in_one_process_do_not_mix(
    tmp_path: Path, trained: TrainResult, write_tiny: Callable[..., Path]
) -> None:
    config = write_tiny(tmp_path / "two", pictures=2)
    first = evaluate(config, str(trained.last), show_dir="drawn", work_dir="one")
    second = evaluate(config, str(trained.last), work_dir="other")
    assert first.log_dir != second.log_dir
    assert len(list(first.files["images"].iterdir())) == 2
    assert not list(second.log_dir.rglob("*.png"))
