"""The file of a step: what is written comes back, bit for bit, and what else it could hold is refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from ibkd_mm.engine.replay.file import Step, read_step, versions, write_step
from ibkd_mm.errors import UserError


def _step(batch: Any, **others: Any) -> Step:
    weights = {"conv.weight": torch.arange(4.0), "norm.num_batches_tracked": torch.tensor(3)}
    fields = {
        "seed": 1,
        "rank": 0,
        "iteration": 7,
        "config": "a.py",
        "losses": {"loss": float("inf")},
        "versions": versions(),
    }
    beside = {"distiller": {"bridge.weight": torch.ones(2)}, "factors": {"loss_cfb": 0.5}}
    return Step(**{"batch": batch, "state_dict": weights, "training_only": beside, **fields, **others})


def _back(batch: Any, tmp_path: Path) -> Any:
    write_step(tmp_path / "a.replay", _step(batch))
    return read_step(tmp_path / "a.replay").batch


def test_all_of_a_step_comes_back(tmp_path: Path) -> None:
    write_step(tmp_path / "a.replay", _step((torch.ones(2), None, [1, 2.5, "x", True])))
    found = read_step(tmp_path / "a.replay")
    assert (found.seed, found.rank, found.iteration, found.config) == (1, 0, 7, "a.py")
    assert found.losses == {"loss": float("inf")}
    assert found.versions["torch"] == torch.__version__
    assert set(found.versions) == {"ibkd_mm", "torch", "mmengine", "mmdet"}
    assert list(found.state_dict) == ["conv.weight", "norm.num_batches_tracked"]
    assert torch.equal(found.state_dict["conv.weight"], torch.arange(4.0))
    assert torch.equal(found.training_only["distiller"]["bridge.weight"], torch.ones(2))
    assert found.training_only["factors"] == {"loss_cfb": 0.5}
    assert torch.equal(found.batch[0], torch.ones(2))
    assert found.batch[1:] == (None, [1, 2.5, "x", True])
    assert [path.name for path in tmp_path.iterdir()] == ["a.replay"]


def test_the_instances_of_a_picture_come_back(tmp_path: Path) -> None:
    information = {"img_path": "a.jpg", "scale_factor": (0.5, 0.5), "homography": np.eye(3, dtype=np.float32)}
    sample = DetDataSample(metainfo={**information, "flip_direction": None, "size": np.int64(4)})
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.tensor([[0.0, 1.0, 2.5, 3.0]])),
        labels=torch.tensor([3]),
        masks=BitmapMasks(np.array([[[0, 1], [1, 0]]], dtype=np.uint8), 2, 2),
    )
    sample.ignored_instances = InstanceData(masks=PolygonMasks([[np.array([0.0, 1, 2, 3, 4, 5])]], 2, 2))
    found = _back({"inputs": [torch.ones(1)], "data_samples": [sample]}, tmp_path)["data_samples"][0]
    assert type(found) is DetDataSample
    assert (found.img_path, found.scale_factor, found.flip_direction, found.size) == (
        "a.jpg",
        (0.5, 0.5),
        None,
        4,
    )
    assert found.homography.dtype == np.float32
    assert (found.homography == np.eye(3)).all()
    assert type(found.gt_instances.bboxes) is HorizontalBoxes
    assert torch.equal(found.gt_instances.bboxes.tensor, torch.tensor([[0.0, 1.0, 2.5, 3.0]]))
    assert torch.equal(found.gt_instances.labels, torch.tensor([3]))
    assert (found.gt_instances.masks.masks == sample.gt_instances.masks.masks).all()
    assert found.gt_instances.masks.masks.dtype == np.uint8
    assert (found.ignored_instances.masks.masks[0][0] == np.arange(6.0)).all()
    assert (found.ignored_instances.masks.height, found.ignored_instances.masks.width) == (2, 2)


def test_a_picture_without_instances_comes_back(tmp_path: Path) -> None:
    sample = DetDataSample(gt_instances=InstanceData(masks=BitmapMasks([], 5, 6), bboxes=HorizontalBoxes([])))
    found = _back([sample], tmp_path)[0].gt_instances
    assert found.masks.masks.shape == (0, 5, 6)
    assert found.bboxes.tensor.shape == (0, 4)


def test_a_map_of_classes_comes_back(tmp_path: Path) -> None:
    sample = SegDataSample(metainfo={"seg_map_path": "a.png"}, gt_sem_seg=PixelData(data=torch.ones(1, 2, 3)))
    found = _back([sample], tmp_path)[0]
    assert type(found) is SegDataSample
    assert torch.equal(found.gt_sem_seg.data, torch.ones(1, 2, 3))


def test_a_class_that_cannot_be_kept_is_named_when_writing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="the batch holds a PosixPath"):
        write_step(tmp_path / "a.replay", _step([{"file": Path("a")}]))
    assert not list(tmp_path.iterdir())


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda path: torch.save({"batch": _Hostile()}, path), "is refused: it asks for `posix.mkdir`"),
        (
            lambda path: torch.save({"batch": DetDataSample()}, path),
            "is refused: it asks for `mmdet.structures",
        ),
        (
            lambda path: torch.save({"state_dict": {}}, path),
            "has not the entries batch, config, iteration, losses",
        ),
        (
            lambda path: write_step(path, _step([], config="../a.py")),
            r"has the config '\.\./a\.py' instead of",
        ),
        (lambda path: write_step(path, _step([], config="/a.py")), "has the config '/a.py' instead of"),
        (lambda path: write_step(path, _step([], rank="0")), "has '0' as rank instead of int"),
        (
            lambda path: write_step(path, _step([], state_dict={"a": 1})),
            "has a state_dict with values other than tensors",
        ),
        (
            lambda path: write_step(path, _step([], losses=[])),
            r"has \[\] as losses instead of dict",
        ),
        (
            lambda path: write_step(path, _step({"_class": "os", "parts": ()})),
            "is not one of a training",
        ),
        (lambda path: path.write_bytes(b""), "is empty"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_and_nothing_of_it_runs(
    save: Callable[[Path], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.replay")
    with pytest.raises(UserError, match=message):
        read_step(tmp_path / "a.replay")
    assert not (tmp_path / "ran").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        read_step(tmp_path / "a.replay")
