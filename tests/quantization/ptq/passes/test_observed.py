"""What two processes observe, each on its part of the images, is what one observes on all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from picoquant.quantization.calibration_images import CalibrationImages, OfTurn
from picoquant.quantization.ptq.histograms import BINS, Histogram
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.passes.observed import Observations
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.pipeline import run_passes
from tests.networks.small_net import SIZE

BATCHES = 5


def feeds():
    for number in range(BATCHES):
        image = np.random.RandomState(number).rand(2, 3, SIZE, SIZE).astype("float32")
        yield {"image": image * (1 + number)}  # each batch widens the ranges


def images_of(folder, turns=(0, 1)):
    def mine():
        return (feed for number, feed in enumerate(feeds()) if number % turns[1] == turns[0])

    names = [f"{number}.jpg" for number in range(2 * BATCHES)]
    return CalibrationImages(mine, len(range(turns[0], BATCHES, turns[1])), folder, names, turns)


def with_images(state, images):
    return replace(state, context=replace(state.context, images=images))


def test_two_processes_observe_as_one(small_state, tmp_path):
    state = run_passes((fold_batch_norm, place_quantisers), small_state())
    every = images_of(tmp_path / "every")
    alone = Observations.of(with_images(state, every)).statistics()
    shared = Observations.of(with_images(state, every), 2)
    other = Observations.of(with_images(state, images_of(tmp_path / "other", (1, 2))))
    assert shared.statistics().histograms.keys() == alone.histograms.keys()
    shared.merge(other.packed())
    found = shared.statistics()
    for name, histogram in alone.histograms.items():
        merged = found.histograms[name]
        assert (merged.bound, merged.low, merged.high) == (histogram.bound, histogram.low, histogram.high)
        np.testing.assert_array_equal(merged.counts, histogram.counts, err_msg=name)
    assert found.fused_absmax == alone.fused_absmax
    for name, mean in alone.channel_means.items():
        np.testing.assert_allclose(found.channel_means[name], mean, rtol=1e-12)


def test_images_keep_their_numbers_in_messages(tmp_path):
    every, other = images_of(tmp_path / "every"), images_of(tmp_path / "other", (1, 2))
    assert (len(every), len(other), len(OfTurn(every, 2)), other.images) == (5, 2, 3, 4)
    shared = OfTurn(every, 2)
    firsts = [feed["image"] for feed in shared]
    np.testing.assert_array_equal(firsts[1], list(feeds())[2]["image"])
    assert "image 6, 5.jpg," in every.label(6)
    assert "image 6, 5.jpg," in shared.label(4)  # the second image of the third batch
    assert "image 8, 7.jpg," in other.label(4)  # the second image of the fourth batch


def test_merged_histograms_have_one_width():
    narrow, wide, both = Histogram(), Histogram(), Histogram()
    small, large = np.float32([0.0001, -0.3, 0.2]), np.float32([7.0, 0.01])
    narrow.add(small)
    wide.add(large)
    both.add(np.concatenate([small, large]))
    for first, second in ((narrow, wide), (wide, narrow)):
        merged = Histogram()
        merged.merge(first)
        merged.merge(second)
        assert (merged.bound, merged.low, merged.high) == (8.0, both.low, both.high)
        assert merged.counts.sum() == 5 and merged.counts.size == 2 * BINS
        np.testing.assert_array_equal(merged.counts, both.counts)
