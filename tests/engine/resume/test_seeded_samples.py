import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, SequentialSampler

from ibkd_mm.engine import ResumableRunner
from ibkd_mm.engine.resume.seeded_samples import PositionedBatches, SeededIndex
from ibkd_mm.engine.resume.seeding import mix, seed_everything
from ibkd_mm.errors import UserError

# SplitMix64 of Steele, Lea and Flood (2014), started from 0: its first output.
FIRST_OF_SPLITMIX = 0xE220A8397B1DCDAF


def test_one_zero_is_hashed_as_by_splitmix() -> None:
    assert mix(0) == FIRST_OF_SPLITMIX


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=5), st.integers(0, 4))
def test_places_that_differ_in_one_number_have_other_seeds(place: list[int], which: int) -> None:
    other = list(place)
    other[which % len(place)] += 1
    assert mix(*place) != mix(*other)
    assert mix(*place) != mix(*place, 0)
    assert 0 <= mix(*place) < 2**64


def test_three_generators_are_seeded() -> None:
    def drawn(*place: int) -> tuple[float, float, float]:
        seed_everything(*place)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert drawn(1, 2) == drawn(1, 2)
    assert all(left != right for left, right in zip(drawn(1, 2), drawn(1, 3), strict=True))


def test_a_draw_is_its_index_and_travels_to_workers_with_its_place() -> None:
    draw = pickle.loads(pickle.dumps(SeededIndex(7, (0, 3, 1))))
    assert draw == 7
    assert [10, 20, 30][SeededIndex(1, ())] == 20
    assert draw.place == (0, 3, 1)


def test_a_turn_goes_on_where_it_was_left() -> None:
    batches = PositionedBatches(BatchSampler(SequentialSampler(range(7)), 2, drop_last=False))
    whole = list(batches)
    assert whole == [[0, 1], [2, 3], [4, 5], [6]]
    batches.taken = 3
    assert list(batches) == [[6]]
    assert next(iter(batches))[0].place == (0, 3, 0)
    assert batches.begin(turn=1) == 0
    assert len(list(batches)) == 4


def test_hooks_reach_the_data_set_through_the_draws(
    toy: Callable[..., ResumableRunner], tmp_path: Path
) -> None:
    runner = toy(tmp_path, 1)
    runner.train()
    drawn = runner.train_dataloader.dataset
    drawn.samples = 5  # as mmdet's PipelineSwitchHook sets `pipeline`
    assert len(drawn) == drawn.dataset.samples == 5
    assert drawn.metainfo is drawn.dataset.metainfo


@pytest.mark.parametrize("epochs", [False, True])
def test_a_data_set_smaller_than_a_batch_is_said(
    toy: Callable[..., ResumableRunner], tmp_path: Path, epochs: bool
) -> None:
    runner = toy(tmp_path, 2, epochs=epochs, batch_size=20, loader={"drop_last": True})
    with pytest.raises(UserError, match="smaller than a batch"):
        runner.train()


def test_each_turn_has_an_order_of_its_own() -> None:
    batches = PositionedBatches(
        BatchSampler(DefaultSampler(range(9), shuffle=True, seed=0), 3, drop_last=False)
    )
    turns = []
    for turn in (0, 1, 0):
        batches.begin(turn)
        turns.append([index for batch in batches for index in batch])
    assert turns[0] == turns[2] != turns[1]
    assert sorted(turns[0]) == sorted(turns[1]) == list(range(9))
