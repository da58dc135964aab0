from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData

from ibkd_mm.datasets.transforms import IGNORE_LABEL
from ibkd_mm.errors import UserError
from ibkd_mm.yolov10.truth import collect_truth

CPU = torch.device("cpu")


def test_instances_of_images_are_concatenated(sample: Callable) -> None:
    samples = [
        sample([[0, 0, 8, 4], [4, 4, 8, 8]], [2, 0], (8, 8)),
        sample([], [], (8, 8)),
        sample([[0, 4, 4, 8]], [1], (8, 8)),
    ]
    truth = collect_truth(samples, CPU, 4, (2, 2))
    assert truth.image.tolist() == [0, 0, 2]
    assert truth.labels.tolist() == [2, 0, 1]
    assert truth.boxes.tolist() == [[0, 0, 8, 4], [4, 4, 8, 8], [0, 4, 4, 8]]
    assert truth.masks.dtype == torch.uint8
    assert truth.masks.tolist() == [[[16, 16], [0, 0]], [[0, 0], [0, 16]], [[0, 0], [16, 0]]]
    assert truth.mask_stride == 4


def test_a_cell_counts_the_pixels_that_are_the_instances(sample: Callable) -> None:
    truth = collect_truth([sample([[3, 2, 6, 8], [5, 5, 6, 6]], [0, 0], (8, 8))], CPU, 4, (2, 2))
    assert truth.masks.tolist() == [[[2, 4], [4, 8]], [[0, 0], [0, 1]]]


def test_images_of_different_sizes_are_padded_at_the_bottom_and_right(sample: Callable) -> None:
    samples = [sample([[0, 0, 6, 5]], [0], (5, 6)), sample([[8, 4, 12, 8]], [0], (8, 12))]
    truth = collect_truth(samples, CPU, 4, (2, 3))
    assert truth.masks.tolist() == [[[16, 8, 0], [4, 2, 0]], [[0, 0, 0], [0, 0, 16]]]


def test_no_instances_at_all(sample: Callable) -> None:
    truth = collect_truth([sample([], [], (8, 8))] * 2, CPU, 4, (2, 2))
    assert truth.image.shape == truth.labels.shape == (0,)
    assert truth.boxes.shape == (0, 4)
    assert truth.masks.shape == (0, 2, 2)


def test_ignore_regions_are_collected_and_crowds_are_not(sample: Callable) -> None:
    samples = [sample([[0, 0, 8, 4]], [2], (8, 8)) for _ in range(3)]
    ignored = InstanceData(
        bboxes=torch.tensor([[1.0, 2, 3, 4], [4, 4, 8, 8]]), labels=torch.tensor([0, IGNORE_LABEL])
    )
    samples[2].ignored_instances = ignored
    truth = collect_truth(samples, CPU, 4, (2, 2))
    assert truth.labels.tolist() == [2, 2, 2]
    assert truth.ignore_regions is not None
    assert truth.ignore_regions.image.tolist() == [2]
    assert truth.ignore_regions.boxes.tolist() == [[4, 4, 8, 8]]
    for others in (ignored[:1], InstanceData(), InstanceData(bboxes=ignored.bboxes)):
        samples[2].ignored_instances = others
        assert collect_truth(samples, CPU, 4, (2, 2)).ignore_regions is None


@given(st.integers(1, 3), st.integers(1, 23), st.integers(1, 23), st.integers(0, 2**30))
def test_counts_are_those_of_the_cells(instances: int, height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 2, (instances, height, width), dtype=np.uint8)
    padded = np.zeros((instances, 24, 24), np.uint8)
    padded[:, :height, :width] = pixels
    expected = padded.reshape(instances, 6, 4, 6, 4).sum((2, 4))
    truth = collect_truth([_only_masks(BitmapMasks(pixels, height, width))], CPU, 4, (6, 6))
    assert np.array_equal(truth.masks.numpy(), expected)


def _only_masks(masks: BitmapMasks | PolygonMasks) -> object:
    class Sample:
        gt_instances = InstanceData(
            bboxes=HorizontalBoxes(torch.zeros(len(masks), 4)),
            labels=torch.zeros(len(masks)).long(),
            masks=masks,
        )

    return Sample()


def test_flipped_views_and_polygons_are_read_too() -> None:
    pixels = np.zeros((1, 8, 8), np.uint8)
    pixels[0, :4, :4] = 1
    flipped = BitmapMasks(pixels[:, :, ::-1], 8, 8)
    assert collect_truth([_only_masks(flipped)], CPU, 4, (2, 2)).masks.tolist() == [[[0, 16], [0, 0]]]
    square = PolygonMasks([[np.array([4.0, 0, 8, 0, 8, 4, 4, 4])]], 8, 8)
    assert collect_truth([_only_masks(square)], CPU, 4, (2, 2)).masks.tolist() == [[[0, 16], [0, 0]]]


def test_missing_masks_are_named(sample: Callable) -> None:
    boxes_alone = sample([[0, 0, 4, 4]], [0], (8, 8))
    del boxes_alone.gt_instances.masks
    with pytest.raises(UserError, match="with_mask=True"):
        collect_truth([boxes_alone], CPU, 4, (2, 2))
    assert collect_truth([boxes_alone], CPU, 4, None).masks is None
