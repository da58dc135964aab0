import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ibkd_mm.yolov10.groups import ByImage, rank_within


def test_ranks_of_a_small_example() -> None:
    groups = torch.tensor([2, 0, 2, 0, 2, 1])
    values = torch.tensor([0.1, 0.5, 0.9, 0.7, 0.4, 0.2])
    assert rank_within(groups, values).tolist() == [2, 1, 0, 0, 1, 0]


def test_of_equals_the_earlier_is_first() -> None:
    assert rank_within(torch.tensor([1, 0, 1, 1]), torch.zeros(4)).tolist() == [0, 0, 1, 2]


def test_nothing_has_no_ranks() -> None:
    assert rank_within(torch.zeros(0, dtype=torch.long), torch.zeros(0)).shape == (0,)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=30))
def test_ranks_are_what_sorting_each_group_gives(elements: list[tuple[int, int]]) -> None:
    groups = torch.tensor([group for group, _ in elements], dtype=torch.long)
    values = torch.tensor([value for _, value in elements], dtype=torch.float32)
    expected = [
        sum(g == group and (v > value or (v == value and j < i)) for j, (g, v) in enumerate(elements))
        for i, (group, value) in enumerate(elements)
    ]
    assert rank_within(groups, values).tolist() == expected


@pytest.mark.parametrize("image", [[0, 0, 2, 2, 2], [2, 0, 2, 0, 2], []])
def test_unpad_reverses_pad(image: list[int]) -> None:
    layout = ByImage(torch.tensor(image, dtype=torch.long), batch=4)
    rows = torch.arange(2.0 * len(image)).reshape(-1, 2) + 1
    padded = layout.pad(rows)
    assert padded.shape == (4, 3 if image else 0, 2)
    assert torch.equal(layout.unpad(padded), rows)
    for number in range(4):
        mine = rows[[i for i, each in enumerate(image) if each == number]]
        assert torch.equal(padded[number, : len(mine)], mine)
        assert not padded[number, len(mine) :].any()


def test_gradients_go_back_to_the_rows() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    padded = ByImage(torch.tensor([1, 0, 1]), batch=2).pad(rows)
    padded.backward(torch.arange(8.0).reshape(2, 2, 2))
    assert rows.grad.tolist() == [[4, 5], [0, 1], [6, 7]]
