from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.datasets.transforms import PackDetInputs

from ibkd_mm.datasets.transforms import MaskCells, count_cells
from ibkd_mm.errors import UserError
from ibkd_mm.yolov10.truth import collect_truth


@given(st.integers(0, 3), st.integers(1, 23), st.integers(1, 23), st.integers(1, 9), st.integers(0, 2**30))
def test_counts_are_those_of_the_cells(
    instances: int, height: int, width: int, stride: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 2, (instances, height, width), dtype=np.uint8)
    down, across = -(-height // stride), -(-width // stride)
    padded = np.zeros((instances, down * stride, across * stride), np.uint8)
    padded[:, :height, :width] = pixels
    expected = padded.reshape(instances, down, stride, across, stride).sum((2, 4))
    found = count_cells(torch.from_numpy(pixels), stride)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), expected)


def test_the_student_learns_the_same_from_cells_as_from_masks(sample: Callable) -> None:
    """Images of sizes that are no multiple of the stride, one without instances, one with a crowd."""

    def packed(cells: bool) -> list:
        images = [
            sample(21, 18, [[2, 3, 17, 9], [0, 0, 5, 5]], labels=[4, 2]),
            sample(32, 24),
            sample(30, 10, [[5, 1, 29, 10], [0, 0, 9, 9]], ignored=[False, True]),
        ]
        samples = [PackDetInputs().transform(one) for one in images]
        return [(MaskCells(4).transform(one) if cells else one)["data_samples"] for one in samples]

    cpu, size = torch.device("cpu"), (8, 8)
    left, right = (collect_truth(packed(cells), cpu, 4, size) for cells in (False, True))
    assert left.masks.shape == (3, 8, 8)
    assert left.masks.sum() == 15 * 6 + 25 + 24 * 9
    for name in ("image", "boxes", "labels", "masks"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name


def test_masks_give_way_to_cells_a_sixteenth_of_their_size(sample: Callable) -> None:
    packed = PackDetInputs().transform(sample(64, 64, [[0, 0, 9, 9]] * 2, ignored=[False, True]))
    for instances in (
        MaskCells(4).transform(packed)["data_samples"].gt_instances,
        packed["data_samples"].ignored_instances,
    ):
        assert "masks" not in instances
        assert instances.mask_cells.shape == (1, 16, 16)
        assert instances.mask_cells.sum() == 81


def test_a_sample_without_masks_stays_as_it_is(sample: Callable) -> None:
    boxes_alone = sample(64, 64, [[0, 0, 9, 9]])
    del boxes_alone["gt_masks"]
    packed = MaskCells(4).transform(PackDetInputs().transform(boxes_alone))
    assert set(packed["data_samples"].gt_instances.keys()) == {"bboxes", "labels"}


def test_cells_of_another_stride_than_the_students_are_named(sample: Callable) -> None:
    packed = PackDetInputs().transform(sample(64, 32, [[0, 0, 9, 9]]))
    samples = [MaskCells(8).transform(packed)["data_samples"]]
    with pytest.raises(UserError, match=r"\(8, 16\) mask_cells of 4 x 4 .* found \(4, 8\). Set stride=4"):
        collect_truth(samples, torch.device("cpu"), 4, (8, 16))
