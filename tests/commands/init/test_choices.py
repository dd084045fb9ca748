"""Input size, batch and schedule: worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.commands.init.choices import choose_input_size, choose_schedule, memory
from picoquant.commands.init.init import _bytes_of_one_image
from picoquant.commands.init.machine import Machine

GB = 10**9
IMAGE = 0.5 * GB  # about what PicoDet-S-NPU takes for an image of 384 x 384


def sizes_of(parts):
    """Longer sides in an input of any size, from parts of the image's side."""
    return lambda size: np.asarray(parts) * size


def test_the_smallest_input_in_which_boxes_are_two_strides_long():
    assert choose_input_size(sizes_of([0.05] * 20), 8).value == 320  # 16 pixels: just long enough
    assert choose_input_size(sizes_of([0.049] * 20), 8).value == 416  # 15.7, 20.4
    assert choose_input_size(sizes_of([0.03] * 20), 8).value == 640  # 15.4 at 512, 19.2
    few_small = choose_input_size(sizes_of([0.5] * 19 + [0.001]), 8)  # one of twenty may be smaller
    assert (few_small.value, few_small.why.split(" of ")[0]) == (320, "95%")


def test_boxes_too_small_for_any_are_told():
    choice = choose_input_size(sizes_of([0.01] * 3 + [0.5]), 8)
    assert choice.value == 640 and choice.why.startswith("25% of the training boxes")
    assert "cut the images into tiles" in choice.why


def test_a_data_set_without_boxes_gets_the_smallest():
    assert choose_input_size(lambda size: np.zeros(0), 8).value == 320


@pytest.mark.parametrize(
    ("images", "epochs", "batch", "rate"),
    [
        (205, 60, 8, 0.06),  # the measured run itself
        (2, 300, 2, 0.015),  # a batch of 4 would never be full
        (8, 300, 4, 0.03),  # 1538 epochs would be needed
        (1000, 30, 16, 0.1),  # 12.3 would do
        (319, 39, 8, 0.06),  # 19 steps of 16
        (320, 39, 16, 0.1),
    ],
)
def test_epochs_and_batch_by_the_number_of_images(images, epochs, batch, rate):
    schedule = choose_schedule(images, 320, Machine(2, 64 * GB), IMAGE)
    assert (schedule.epochs, schedule.batch, schedule.base_lr) == (epochs, batch, rate)
    assert schedule.evaluate_every == epochs // 10 and schedule.fits


def test_the_time_is_that_of_the_measured_speed():
    """21 images a second at 320 px on two cores; four do twice as much, at 640 each takes four times as long."""
    assert choose_schedule(205, 320, Machine(2, None), IMAGE).seconds == pytest.approx(12300 / 21)
    assert choose_schedule(205, 320, Machine(4, None), IMAGE).seconds == pytest.approx(12300 / 42)
    assert choose_schedule(205, 640, Machine(2, None), IMAGE).seconds == pytest.approx(12300 / 21 * 4)


@pytest.mark.parametrize(("batch", "measured"), [(4, 1.2), (8, 1.9)])
def test_what_a_batch_takes_is_what_was_measured(batch, measured):
    """At 320 px, with the estimate that training itself warns by."""
    assert memory(batch, _bytes_of_one_image(320, 3)) == pytest.approx(measured * GB, rel=0.1)


def test_a_batch_fits_into_the_free_memory():
    roomy = choose_schedule(1000, 320, Machine(2, 15 * GB), IMAGE)  # 8.5 GB of 9.0
    tight = choose_schedule(1000, 320, Machine(2, 10 * GB), IMAGE)
    assert (roomy.batch, tight.batch) == (16, 8)
    assert tight.why_batch.endswith("of the 10.0 GB that are free here; 16 would take 8.5 GB")
    none = choose_schedule(1000, 320, Machine(2, 4 * GB), IMAGE)
    assert (none.batch, none.fits) == (4, False) and "close other programs" in none.why_batch
