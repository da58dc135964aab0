from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from mmdet.structures.mask import PolygonMasks
from mmengine.registry import TRANSFORMS

from ibkd_mm.datasets.transforms import MosaicAffine
from ibkd_mm.errors import UserError

STILL = {"scale": 0.0, "translate": 0.0}


def boxes_of(results: dict[str, Any]) -> np.ndarray:
    return results["gt_bboxes"].tensor.numpy()


def masks_of(results: dict[str, Any]) -> np.ndarray:
    return results["gt_masks"].to_ndarray()


def test_an_unmoved_mosaic_is_four_resized_images_around_its_middle(
    sample: Callable, fixed: Callable
) -> None:
    fixed(0.5)
    sizes = [(64, 48), (40, 64), (64, 64), (80, 32)]
    samples = [sample(*size, seed=index) for index, size in enumerate(sizes)]
    # the canvas is 128 x 128 and its middle half is seen, where the images' corners meet
    mosaic = MosaicAffine((64, 64), **STILL).transform({**samples[0], "mix_results": samples[1:]})
    image = mosaic["img"]
    assert image.shape == (64, 64, 3)
    fitted = [
        cv2.resize(one["img"], size)
        for one, size in zip(samples, [(64, 48), (40, 64), (64, 64), (64, 26)], strict=True)
    ]
    tiles = [
        (image[:32, :32], fitted[0][-32:, -32:]),
        (image[:32, 32:], fitted[1][-32:, :32]),
        (image[32:, :32], fitted[2][:32, -32:]),
        (image[32:58, 32:], fitted[3][:, :32]),
    ]
    for tile, expected in tiles:
        assert np.abs(tile.astype(int) - expected).max() <= 1
    assert (image[58:, 32:] == 114).all()


def test_instances_of_a_mosaic_stand_where_their_images_do(sample: Callable, fixed: Callable) -> None:
    fixed(0.5)
    box = [[40, 40, 60, 56]]
    samples = [sample(64, 64, box, labels=[index + 3]) for index in range(4)]
    mosaic = MosaicAffine((64, 64), **STILL).transform({**samples[0], "mix_results": samples[1:]})
    # left images are seen from 32 on, those at the right up to 32: at 40 nothing of the box is left
    assert boxes_of(mosaic).tolist() == [[8, 8, 28, 24]]
    assert mosaic["gt_bboxes_labels"].tolist() == [3]
    box = [[20, 20, 60, 50]]
    samples = [sample(64, 64, box, labels=[index + 3]) for index in range(4)]
    mosaic = MosaicAffine((64, 64), **STILL, min_area_share=0).transform(
        {**samples[0], "mix_results": samples[1:]}
    )
    assert boxes_of(mosaic).tolist() == [
        [0, 0, 28, 18],
        [52, 0, 64, 18],
        [0, 52, 28, 64],
        [52, 52, 64, 64],
    ]
    assert masks_of(mosaic).sum((1, 2)).tolist() == [28 * 18, 12 * 18, 28 * 12, 12 * 12]
    assert masks_of(mosaic)[1, :18, 52:].all()
    assert mosaic["gt_bboxes_labels"].tolist() == [3, 4, 5, 6]


def test_an_image_by_itself_is_letterboxed(sample: Callable) -> None:
    alone = MosaicAffine((96, 64), **STILL).transform(sample(40, 32, [[10, 8, 30, 24]]))
    # 40 x 32 becomes 80 x 64, with 8 columns of grey at either side
    assert alone["img_shape"] == alone["img"].shape[:2] == (64, 96)
    assert (alone["img"][:, :8] == 114).all()
    assert (alone["img"][:, 88:] == 114).all()
    expected = cv2.resize(sample(40, 32)["img"], (80, 64))
    assert np.abs(alone["img"][:, 8:88].astype(int) - expected).max() <= 1
    assert boxes_of(alone).tolist() == [[28, 16, 68, 48]]
    assert masks_of(alone).sum() == 40 * 32
    assert masks_of(alone)[0, 16:48, 28:68].all()


def test_scale_and_move_are_about_the_middle(sample: Callable, fixed: Callable) -> None:
    fixed(1.0)  # the largest of each
    moved = MosaicAffine((64, 64), scale=0.5, translate=0.25).transform(sample(64, 64, [[24, 24, 40, 36]]))
    # 1.5 times about (32, 32), then 16 to the right and down
    assert boxes_of(moved).tolist() == [[36, 36, 60, 54]]
    fixed(0.0)
    moved = MosaicAffine((64, 64), scale=0.5, translate=0.25).transform(sample(64, 64, [[24, 24, 40, 36]]))
    assert boxes_of(moved).tolist() == [[12, 12, 20, 18]]


def test_a_turned_box_is_that_of_its_pixels(sample: Callable, fixed: Callable) -> None:
    fixed(1.0)
    disc = np.zeros((1, 64, 64), np.uint8)
    cv2.circle(disc[0], (32, 32), 12, 1, -1)
    turned = MosaicAffine((64, 64), **STILL, degrees=45).transform(
        sample(64, 64, [[20, 20, 45, 45]], masks=disc)
    )
    # the corners of the box would be 35 apart, the disc has a diameter of 25 still
    assert np.abs(boxes_of(turned)[0] - [20, 20, 45, 45]).max() <= 1.1
    assert int(masks_of(turned).sum()) == pytest.approx(int(disc.sum()), rel=0.02)
    assert (turned["img"][0, 0] == 114).all()  # no corner of the image reaches that of the canvas
    assert (turned["img"][32, 32] != 114).any()


def test_a_mask_up_to_the_edge_of_a_turned_image_ends_with_it(sample: Callable, fixed: Callable) -> None:
    fixed(1.0)
    white = np.full((40, 60, 3), 255, np.uint8)
    turned = MosaicAffine((64, 64), **STILL, degrees=30, fill=(0, 0, 0)).transform(
        sample(60, 40, [[0, 0, 60, 40]], image=white)
    )
    assert np.array_equal(masks_of(turned)[0] > 0, turned["img"][..., 0] == 255)
    assert 0 < masks_of(turned).mean() < 1


def test_boxes_alone_are_clipped(sample: Callable, fixed: Callable) -> None:
    fixed(1.0)
    boxes_alone = sample(64, 64, [[50, 20, 60, 30], [10, 20, 20, 30]])
    del boxes_alone["gt_masks"]
    moved = MosaicAffine((64, 64), scale=0.0, translate=0.125).transform(boxes_alone)
    assert "gt_masks" not in moved
    assert boxes_of(moved).tolist() == [[58, 28, 64, 38], [18, 28, 28, 38]]


def test_a_box_that_is_cut_shrinks_to_what_is_left_of_its_mask(sample: Callable, fixed: Callable) -> None:
    fixed(1.0)
    corner = np.zeros((1, 64, 64), np.uint8)
    corner[0, 20:24, 40:60] = 1  # an L: a bar at the top, and at the right one that is cut off
    corner[0, 20:50, 56:60] = 1
    cut = MosaicAffine((64, 64), scale=0.0, translate=0.125).transform(
        sample(64, 64, [[40, 20, 60, 50]], masks=corner)
    )
    assert boxes_of(cut).tolist() == [[48, 28, 64, 32]]
    assert masks_of(cut).sum() == 16 * 4


@pytest.mark.parametrize(
    ("box", "rule"),
    [
        ([60, 20, 64, 30], {"min_side": 2}),  # 1 pixel of 4 columns is left
        ([24, 20, 64, 30], {"min_area_share": 0.95}),  # 37 of 40
        ([0, 20, 61, 22], {"max_aspect": 30}),  # 61 to 2
    ],
)
def test_what_is_too_little_to_learn_from_is_left_out(
    sample: Callable, fixed: Callable, box: list[int], rule: dict[str, float]
) -> None:
    fixed(1.0)
    lax = {"min_side": 0.0, "min_area_share": 0.0, "max_aspect": 1e9}
    still = [10, 40, 20, 50]
    for rules, expected in ((lax, [7, 8]), ({**lax, **rule}, [8])):
        transform = MosaicAffine((64, 64), scale=0.0, translate=3 / 64, **rules)
        kept = transform.transform(sample(64, 64, [box, still], labels=[7, 8], ignored=[False, True]))
        assert kept["gt_bboxes_labels"].tolist() == expected
        assert kept["gt_ignore_flags"].tolist() == [False, True][-len(expected) :]
        assert len(masks_of(kept)) == len(boxes_of(kept)) == len(expected)


def test_an_instance_without_a_pixel_is_left_out_unless_it_is_to_be_ignored(sample: Callable) -> None:
    nothing = np.zeros((2, 64, 64), np.uint8)
    boxes = [[10, 10, 20, 20], [30, 30, 50, 50]]
    kept = MosaicAffine((64, 64), **STILL).transform(
        sample(64, 64, boxes, masks=nothing, ignored=[False, True])
    )
    assert boxes_of(kept).tolist() == boxes[1:]
    assert kept["gt_ignore_flags"].tolist() == [True]
    assert masks_of(kept).sum() == 0


def test_images_of_nothing(sample: Callable) -> None:
    empty = MosaicAffine((64, 64)).transform({**sample(40, 50), "mix_results": [sample(50, 40)] * 3})
    assert boxes_of(empty).shape == (0, 4)
    assert masks_of(empty).shape == (0, 64, 64)
    assert empty["gt_bboxes_labels"].shape == empty["gt_ignore_flags"].shape == (0,)


@pytest.mark.parametrize("degrees", [0.0, 10.0])
def test_masks_move_as_the_pixels_do(sample: Callable, degrees: float) -> None:
    """Instances are painted white on black: what of the mosaic is white is in a mask, and the reverse."""
    transform = MosaicAffine(
        (160, 96), degrees=degrees, shear=degrees, fill=(0, 0, 0), min_side=0, min_area_share=0
    )
    rng, pixels = np.random.default_rng(0), np.zeros(2)
    for trial in range(12):
        np.random.seed(trial)
        images = []
        for width, height in ((200, 100), (90, 120), (64, 64), (500, 400)):
            x, y = rng.integers(0, width - 30), rng.integers(0, height - 30)
            box = [x, y, x + 10 + rng.integers(20), y + 10 + rng.integers(20)]
            one = sample(width, height, [box])
            one["img"] = np.repeat(one["gt_masks"].masks[0][..., None] * np.uint8(255), 3, axis=2)
            images.append(one)
        mosaic = transform.transform({**images[0], "mix_results": images[1:]})
        masks = masks_of(mosaic)
        boxes, white = boxes_of(mosaic), mosaic["img"][..., 0] > 127
        outline = 2 * float((boxes[:, 2:] - boxes[:, :2]).sum())
        assert (white != masks.any(0)).sum() <= 0.3 * outline
        pixels += white.sum(), masks.any(0).sum()
        for mask, box in zip(masks, boxes, strict=True):
            rows, columns = np.nonzero(mask)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(box - tight).max() <= 1
    assert pixels[1] == pytest.approx(pixels[0], rel=0.01)  # off at edges, but to neither side


def test_masks_of_any_layout_and_polygons_give_the_same(sample: Callable) -> None:
    outline = np.array([10.0, 10, 50, 10, 50, 40, 10, 40])
    plain = sample(64, 48, [[10, 10, 50, 40]])
    found = []
    for masks in (
        plain["gt_masks"].masks,
        np.asfortranarray(plain["gt_masks"].masks),
        np.stack([np.asfortranarray(plain["gt_masks"].masks[0])]),
    ):
        np.random.seed(5)
        found.append(MosaicAffine((64, 64)).transform(sample(64, 48, [[10, 10, 50, 40]], masks=masks)))
    polygons = sample(64, 48, [[10, 10, 50, 40]])
    polygons["gt_masks"] = PolygonMasks([[outline]], 48, 64)
    np.random.seed(5)
    found.append(MosaicAffine((64, 64)).transform(polygons))
    assert masks_of(found[0]).sum() > 100
    assert all(np.array_equal(masks_of(found[0]), masks_of(other)) for other in found)


def test_numpys_seed_decides(sample: Callable) -> None:
    def drawn(seed: int) -> dict[str, Any]:
        np.random.seed(seed)
        transform = MosaicAffine((64, 64), degrees=5)
        others = [sample(40, 50, [[5, 5, 30, 30]], seed=one) for one in transform.get_indexes(range(9))]
        return transform.transform({**sample(64, 64, [[10, 10, 40, 40]]), "mix_results": others})

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert np.array_equal(first["img"], again["img"])
    assert np.array_equal(boxes_of(first), boxes_of(again))
    assert not np.array_equal(first["img"], other["img"])


def test_wrong_use_is_named(sample: Callable) -> None:
    with pytest.raises(UserError, match=r"0 or 3 images in mix_results, found 1.*MultiImageMixDataset"):
        MosaicAffine((64, 64)).transform({**sample(9, 9), "mix_results": [sample(9, 9)]})
    with pytest.raises(UserError, match=r"below 1 in MosaicAffine, found 1.5"):
        MosaicAffine((64, 64), scale=1.5)


def test_boxes_as_plain_arrays_stay_so(sample: Callable) -> None:
    plain = sample(64, 64, [[10, 10, 40, 40]])
    plain["gt_bboxes"] = boxes_of(plain)
    moved = TRANSFORMS.build({"type": "ibkd_mm.MosaicAffine", "size": (64, 64), **STILL})(plain)
    assert moved["gt_bboxes"].tolist() == [[10, 10, 40, 40]]
