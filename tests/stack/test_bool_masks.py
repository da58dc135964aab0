from pathlib import Path

import pytest
import torch
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData

from ibkd_mm.stack import mmdet_patches

TINY = Path(__file__).parents[2] / "configs" / "_base_" / "models" / "mask2former_tiny.py"
SIDE = 32


@pytest.fixture(scope="module")
def head():
    model = Config.fromfile(TINY).model
    settings = {"train_cfg": model.train_cfg, "test_cfg": model.test_cfg}
    return MODELS.build({**model.panoptic_head, **settings})


def annotated(*counts):
    """Pictures of so many instances."""
    draw = torch.Generator().manual_seed(0)
    return [
        InstanceData(
            labels=torch.randint(8, (count,), generator=draw),
            masks=BitmapMasks(
                torch.randint(2, (count, SIDE, SIDE), generator=draw).numpy().astype("uint8"), SIDE, SIDE
            ),
        )
        for count in counts
    ]


def losses(head, *counts):
    metas = [{"img_shape": (SIDE, SIDE), "batch_input_shape": (SIDE, SIDE)}] * len(counts)
    truth = head.preprocess_gt(annotated(*counts), [None] * len(counts))
    torch.manual_seed(1)
    scores, masks = torch.randn(2, len(counts), 40, 9), torch.randn(2, len(counts), 40, 8, 8)
    return truth, head.loss_by_feat(scores, masks, truth, metas)


def test_losses_are_those_of_mmdets_own_masks_to_the_bit(head, monkeypatch):
    truth, ours = losses(head, 3, 0, 5)
    monkeypatch.delattr(Mask2FormerHead, "preprocess_gt")
    upstream, theirs = losses(head, 3, 0, 5)
    assert [each.masks.dtype for each in truth] == [torch.bool] * 3
    assert {each.masks.dtype for each in upstream} == {torch.int64}, "mmdet has mended it: ours can go"
    assert ours.keys() == theirs.keys()
    assert len(ours) == 6
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_is_put_there_once_and_maskformer_is_left_alone():
    before = Mask2FormerHead.preprocess_gt
    mmdet_patches.keep_masks_boolean()
    assert Mask2FormerHead.preprocess_gt is before
    assert before.__wrapped__ is Mask2FormerHead.__mro__[1].preprocess_gt
