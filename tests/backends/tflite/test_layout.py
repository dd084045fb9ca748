"""Channels last, by hand."""

from __future__ import annotations

import numpy as np

from picoquant.backends.tflite.layout import Layout, moved, reshaped


def test_an_image_is_stored_with_its_channels_last():
    layout = Layout.of((1, 3, 4, 5))
    assert layout == Layout(4, 1) and layout.order == (0, 2, 3, 1)
    assert layout.stored((1, 3, 4, 5)) == [1, 4, 5, 3]
    assert [layout.axis(axis) for axis in (0, 1, 2, 3, -3)] == [0, 3, 1, 2, 3]
    array = np.arange(60).reshape(1, 3, 4, 5)
    assert (layout.store(array) == array.transpose(0, 2, 3, 1)).all()
    assert Layout.of((1, 60)).order == (0, 1)


def test_reshapes_that_keep_channels_apart_need_no_move():
    """A head's cells in a row, and the two halves of a channel shuffle."""
    image = Layout(4, 1)
    row = reshaped(image, (1, 32, 20, 20), (1, 32, 400))
    assert row == Layout(3, 1) and row.stored((1, 32, 400)) == [1, 400, 32]
    halves = reshaped(image, (1, 6, 4, 5), (1, 2, 3, 4, 5))
    assert halves == Layout(5, 2) and halves.stored((1, 2, 3, 4, 5)) == [1, 4, 5, 2, 3]
    array = np.arange(120).reshape(1, 6, 4, 5)
    assert (image.store(array).ravel() == halves.store(array.reshape(1, 2, 3, 4, 5)).ravel()).all()
    assert reshaped(image, (1, 6, 4, 5), (1, 4, 30)) is None  # channels and cells get mixed
    assert reshaped(Layout(3), (1, 4, 30), (1, 6, 20)) == Layout(3)


def test_transposes_that_only_change_the_reading_move_nothing():
    assert moved(Layout(3, 1), (0, 2, 1)) == (Layout(3), (0, 1, 2))
    assert moved(Layout(4, 1), (0, 2, 3, 1)) == (Layout(4), (0, 1, 2, 3))
    array = np.arange(120).reshape(1, 2, 3, 4, 5)
    layout, order = moved(Layout(5, 2), (0, 2, 1, 3, 4))
    assert layout == Layout(5, 2) and order == (0, 1, 2, 4, 3)
    stored = Layout(5, 2).store(array).transpose(order)
    assert (stored == layout.store(array.transpose(0, 2, 1, 3, 4))).all()
