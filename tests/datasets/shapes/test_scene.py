import numpy as np
import pytest

from ibkd_mm.datasets.shapes.outlines import CLASSES, OUTLINES, create_distractor
from ibkd_mm.datasets.shapes.scene import PRESETS, _rasterise, draw_scene


def _scene(preset: str, index: int = 0):
    return draw_scene(160, PRESETS[preset], np.random.default_rng([7, index]))


def test_there_are_eight_classes():
    assert len(set(CLASSES)) == 8


# Areas in the unit disc, by hand: regular n-gon n/2 sin(2 pi/n), star 5 r R sin(pi/5) with r = .42,
# cross 8ab - 4a^2 with a = .32 and b = .95, ring: a 48-gon less a 32-gon of radius .55.
_AREAS = {
    "disc": 24 * np.sin(2 * np.pi / 48),
    "square": 2.0,
    "triangle": 1.5 * np.sin(2 * np.pi / 3),
    "pentagon": 2.5 * np.sin(2 * np.pi / 5),
    "star": 5 * 0.42 * np.sin(np.pi / 5),
    "cross": 8 * 0.32 * 0.95 - 4 * 0.32**2,
    "ring": 24 * np.sin(2 * np.pi / 48) - 16 * 0.55**2 * np.sin(2 * np.pi / 32),
}


def _perimeter(contours):
    return sum(np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum() for points in contours)


@pytest.mark.parametrize("name", _AREAS)
def test_masks_have_the_area_of_the_shape(name):
    """Up to the pen that draws the soft edge, which is less than a pixel wide."""
    radius = 60.0
    area = int((_rasterise([radius * points + 80.0 for points in OUTLINES[name]], 160) > 127).sum())
    assert (
        _AREAS[name] * radius**2 < area < _AREAS[name] * radius**2 + 0.9 * radius * _perimeter(OUTLINES[name])
    )


def test_crescent_is_a_disc_less_a_moved_disc():
    coverage = _rasterise([60.0 * points + 80.0 for points in OUTLINES["crescent"]], 160) > 127
    x, y = np.meshgrid((np.arange(160) + 0.5 - 80) / 60, (np.arange(160) + 0.5 - 80) / 60)
    pen = 0.9 / 60
    smaller = (x**2 + y**2 < 1) & ((x - 0.5) ** 2 + y**2 > 0.9**2)
    larger = (x**2 + y**2 < (1 + pen) ** 2) & ((x - 0.5) ** 2 + y**2 > (0.9 - pen) ** 2)
    assert (smaller & ~coverage).sum() <= 0.01 * smaller.sum()
    assert (coverage & ~larger).sum() <= 0.01 * larger.sum()


def test_a_ring_has_a_hole():
    coverage = _rasterise([60.0 * points + 80.0 for points in OUTLINES["ring"]], 160)
    assert coverage[80, 80] == 0
    assert coverage[80, 80 + 47] == 255


def test_outlines_and_distractors_stay_in_the_unit_disc():
    rng = np.random.default_rng(0)
    contours = [points for name in CLASSES for points in OUTLINES[name]]
    contours += [points for _ in range(50) for points in create_distractor(rng)]
    assert max(np.linalg.norm(points, axis=1).max() for points in contours) <= 1.02


@pytest.mark.parametrize("preset", PRESETS)
def test_every_instance_is_visible_enough_and_masks_never_overlap(preset):
    rules = PRESETS[preset]
    for index in range(12):
        scene = _scene(preset, index)
        assert scene.image.shape == (160, 160, 3)
        assert scene.image.dtype == np.uint8
        assert len(scene.masks) == len(scene.labels) <= rules.instances[1]
        assert scene.masks.sum(0).max(initial=0) <= 1
        assert all(mask.sum() >= rules.min_area for mask in scene.masks)


def test_each_preset_is_more_crowded_with_smaller_instances_than_the_one_before():
    easy, hard, hardest = ([_scene(name, i) for i in range(25)] for name in ("easy", "hard", "hardest"))

    def instances(scenes):
        return np.mean([len(scene.labels) for scene in scenes])

    def smallest(scenes):
        return np.mean([np.sqrt(scene.masks.sum((1, 2)).min()) for scene in scenes])

    assert instances(hard) > 2.5 * instances(easy)
    assert instances(hardest) > 1.2 * instances(hard)
    assert smallest(hard) < 0.55 * smallest(easy)
    assert smallest(hardest) < 0.8 * smallest(hard)


def test_the_same_randomness_gives_the_same_image():
    first, again, other = _scene("hard", 3), _scene("hard", 3), _scene("hard", 4)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert (first.image != other.image).mean() > 0.5


def test_pixels_outside_instances_and_distractors_are_ground():
    """The colours of an instance are where its mask is: edges of masks are edges of the image."""
    scene = draw_scene(160, PRESETS["easy"], np.random.default_rng(11))
    grey = scene.image.astype(float).mean(-1)
    mask = scene.masks.any(0)
    inner = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    edge = mask[1:-1, 1:-1] & ~inner
    steps = np.abs(np.gradient(grey)[0]) + np.abs(np.gradient(grey)[1])
    assert steps[1:-1, 1:-1][edge].mean() > 2 * steps[1:-1, 1:-1][~mask[1:-1, 1:-1]].mean()
