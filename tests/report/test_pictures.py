"""A sheet of pictures holds as many as there is room for, and some in any case."""

import numpy as np
import pytest

from fastent.report.pictures import as_images, fitting_sheet, sheet

NOISE = np.random.default_rng(0).integers(0, 256, (64, 9, 9), np.uint8)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.2])
def test_as_many_as_fit_first_ones_first(share):
    order = np.random.default_rng(1).permutation(64)
    room = int(share * sheet(NOISE).size)
    drawn, shown = fitting_sheet(NOISE, order, room)
    assert drawn.size <= room
    assert drawn == sheet(NOISE[shown])
    np.testing.assert_array_equal(shown, order[: len(shown)])
    if len(shown) < 64:  # twice as many do not fit
        assert sheet(NOISE[order[: 2 * len(shown)]]).size > room


def test_some_are_shown_in_any_case_and_none_without_room():
    order = np.arange(64)
    drawn, shown = fitting_sheet(NOISE, order, 0, always=5)
    np.testing.assert_array_equal(shown, order[:5])
    assert drawn == sheet(NOISE[:5])
    assert fitting_sheet(NOISE, order, 0)[0] is None
    assert fitting_sheet(NOISE, order[:0], 10**6)[0] is None


def test_options_are_those_of_a_sheet():
    drawn, _ = fitting_sheet(NOISE, np.arange(3), 10**6, side=4, quality=50)
    assert drawn == sheet(NOISE[:3], side=4, quality=50)


def test_bytes_with_few_grey_levels_span_black_to_white():
    digits = np.arange(17, dtype=np.uint8).reshape(1, 17, 1)
    np.testing.assert_array_equal(as_images(digits, 1)[0, [0, 8, 16], 0], [0, 128, 255])
    whole = np.array([[[0, 32]]], np.uint8)
    np.testing.assert_array_equal(as_images(whole, 1), whole)
    assert not as_images(np.zeros((2, 3, 3), np.uint8), 2).any()
