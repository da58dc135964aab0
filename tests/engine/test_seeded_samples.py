import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, SequentialSampler

from ibkd_mm.engine import ResumableRunner
from ibkd_mm.engine.seeded_samples import PositionedBatches, SeededIndex
from ibkd_mm.errors import UserError


def test_an_index_keeps_its_position_when_it_is_sent_to_a_worker() -> None:
    index = pickle.loads(pickle.dumps(SeededIndex(7, (0, 3, 1))))
    assert index == 7
    assert [10, 20, 30][SeededIndex(1, ())] == 20
    assert index.position == (0, 3, 1)


def test_an_epoch_continues_at_its_position() -> None:
    batches = PositionedBatches(BatchSampler(SequentialSampler(range(7)), 2, drop_last=False))
    whole = list(batches)
    assert whole == [[0, 1], [2, 3], [4, 5], [6]]
    batches.consumed = 3
    assert list(batches) == [[6]]
    assert next(iter(batches))[0].position == (0, 3, 0)
    assert batches.start_epoch(1) == 0
    assert len(list(batches)) == 4


def test_hooks_reach_the_wrapped_dataset(toy: Callable[..., ResumableRunner], tmp_path: Path) -> None:
    runner = toy(tmp_path, 1)
    runner.train()
    dataset = runner.train_dataloader.dataset
    dataset.samples = 5  # as mmdet's PipelineSwitchHook sets `pipeline`
    assert len(dataset) == dataset.dataset.samples == 5
    assert dataset.metainfo is dataset.dataset.metainfo


@pytest.mark.parametrize("epochs", [False, True])
def test_a_dataset_smaller_than_a_batch_is_refused(
    toy: Callable[..., ResumableRunner], tmp_path: Path, epochs: bool
) -> None:
    runner = toy(tmp_path, 2, epochs=epochs, batch_size=20, loader={"drop_last": True})
    with pytest.raises(UserError, match="smaller than a batch"):
        runner.train()


def test_every_epoch_has_its_own_order() -> None:
    batches = PositionedBatches(
        BatchSampler(DefaultSampler(range(9), shuffle=True, seed=0), 3, drop_last=False)
    )
    orders = []
    for epoch in (0, 1, 0):
        batches.start_epoch(epoch)
        orders.append([index for batch in batches for index in batch])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(9))
