import numpy as np

from ibkd_mm.visual.overlay import overlay

RED, BLUE = (255, 0, 0), (0, 0, 255)


def _grey(size=20):
    return np.full((size, size, 3), 100, np.uint8)


def _mask(rows, columns, size=20):
    mask = np.zeros((size, size), bool)
    mask[rows, columns] = True
    return mask


def test_inside_is_tinted_and_outside_untouched():
    masks = np.stack([_mask(slice(4, 12), slice(4, 12))])
    drawn = overlay(_grey(), masks, [0], [RED], scale=1)
    # 0.55 * 100 + 0.45 * (0, 0, 255), in BGR, cut to bytes
    np.testing.assert_array_equal(drawn[7, 7], [55, 55, 169])
    np.testing.assert_array_equal(drawn[16, 16], [100, 100, 100])


def test_the_outline_has_the_full_colour_of_the_class():
    masks = np.stack([_mask(slice(4, 12), slice(4, 12)), _mask(slice(14, 18), slice(14, 18))])
    drawn = overlay(_grey(), masks, [0, 1], [RED, BLUE], scale=1)
    np.testing.assert_array_equal(drawn[4, 8], [0, 0, 255])
    np.testing.assert_array_equal(drawn[14, 16], [255, 0, 0])


def test_the_result_is_as_many_times_larger_as_asked():
    masks = np.stack([_mask(slice(4, 12), slice(4, 12))])
    drawn = overlay(_grey(), masks, [0], [RED], scale=3)
    assert drawn.shape == (60, 60, 3)
    np.testing.assert_array_equal(drawn[21, 21], [55, 55, 169])
    np.testing.assert_array_equal(drawn[50, 50], [100, 100, 100])


def test_a_hole_stays_empty_and_gets_its_own_outline():
    mask = _mask(slice(2, 18), slice(2, 18))
    mask[7:13, 7:13] = False
    drawn = overlay(_grey(), mask[None], [0], [RED], scale=1)
    np.testing.assert_array_equal(drawn[10, 10], [100, 100, 100])
    np.testing.assert_array_equal(drawn[6, 10], [0, 0, 255])


def test_names_are_written_inside_the_image_even_at_its_edge():
    mask = _mask(slice(0, 3), slice(56, 60), size=60)
    plain = overlay(_grey(60), mask[None], [0], [RED], scale=1)
    named = overlay(_grey(60), mask[None], [0], [RED], ["disc"], scale=1)
    rows, columns = np.nonzero((plain != named).any(-1))
    assert len(rows) > 20
    assert columns.min() > 20
    assert rows.max() < 20


def test_without_instances_the_image_is_as_it_was_and_the_input_is_never_changed():
    image = _grey()
    np.testing.assert_array_equal(overlay(image, np.zeros((0, 20, 20), bool), [], [RED], scale=1), image)
    overlay(image, np.ones((1, 20, 20), bool), [0], [RED], scale=1)
    np.testing.assert_array_equal(image, _grey())
