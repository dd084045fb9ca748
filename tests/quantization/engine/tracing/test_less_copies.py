"""Graphs of which oneDNN keeps fewer copies compute the same: maps handed over channels last, images in parts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from picoquant.quantization.engine.tracing import channels_last, gradients, parts
from picoquant.quantization.engine.tracing.blocks import NHWC
from picoquant.training.fast import tuned_cpu
from picoquant.training.graphs.layouts import channels_last_available
from picoquant.utils.paddle_version.differences import paddle_3
from tests.quantization.engine.tracing import test_changes
from tests.quantization.engine.tracing.test_changes import assert_same, export_repeated

IMAGES = np.random.RandomState(2).rand(6, 3, 32, 32).astype("float32")
_CONVOLUTIONS = ("conv2d_grad", "depthwise_conv2d_grad")

needs_channels_last = pytest.mark.skipif(
    paddle_3() or not channels_last_available(),
    reason="oneDNN's convolutions are not channels last on this CPU, or with this Paddle",
)
needs_parts = pytest.mark.skipif(paddle_3(), reason="gradients are not divided with Paddle 3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_repeated(tmp_path_factory.mktemp("repeated"))


def run(folder, *images):
    """Two steps with each number of images in turn, and the operators of each graph that was made for them."""
    graphs, last = [], gradients.Rounding.after_append_backward

    def after(self, program, start):
        found = last(self, program, start)
        graphs.append(found[0].global_block().ops)
        return found

    with pytest.MonkeyPatch.context() as patch, tuned_cpu():
        patch.setattr(gradients.Rounding, "after_append_backward", after)
        patch.setattr(parts, "_LARGE", 8 * 16 * 16)  # all maps but the image are as large
        runs = []
        for count in images:
            patch.setattr(test_changes, "IMAGES", IMAGES[:count])
            runs.append(test_changes.Run(test_changes.steps(folder, following=False)))
    return runs, graphs


@needs_channels_last
def test_maps_handed_over_channels_last_give_the_same_numbers(folder, monkeypatch):
    (found,), (ops,) = run(folder, 3)
    handed = [op for op in ops if op.type == "transfer_layout" and op.attr("src_layout") == NHWC]
    assert len(handed) == 9  # as many convolutions there are: stem, two in each block, two heads
    monkeypatch.setattr(channels_last, "available", lambda: False)
    (expected,), (ops,) = run(folder, 3)
    assert not [op for op in ops if op.type == "transfer_layout" and op.attr("src_layout") == NHWC]
    assert found.numbers.keys() == expected.numbers.keys()
    for name, value in expected.numbers.items():
        np.testing.assert_array_equal(found.numbers[name], value, err_msg=name)


@needs_channels_last
def test_maps_are_handed_over_plain_where_operators_run_in_other_threads():
    with tuned_cpu():
        assert channels_last.available()
    assert not channels_last.available()


@needs_channels_last
def test_it_is_found_out_where_paddle_would_go_on_converting_to_channels_last(monkeypatch):
    take_away = channels_last.plain_again
    try:
        with monkeypatch.context() as patch, tuned_cpu():
            patch.setattr(channels_last, "plain_again", lambda: None)
            assert not channels_last._can_be_taken_back.__wrapped__()
    finally:
        take_away()
    with tuned_cpu():
        assert channels_last._can_be_taken_back.__wrapped__()


@needs_parts
@pytest.mark.parametrize(("images", "in_parts"), [(4, 4), (6, 2), (3, 1)])
def test_gradients_of_large_maps_are_computed_from_parts_of_the_images(folder, monkeypatch, images, in_parts):
    (found,), (ops,) = run(folder, images)
    monkeypatch.setattr(gradients, "gradients_in_parts", lambda block, start, parts: None)
    (expected,), (whole,) = run(folder, images)
    count, before = (sum(op.type in _CONVOLUTIONS for op in each) for each in (ops, whole))
    assert count == before * in_parts and before >= 10
    kinds = Counter(op.type for op in ops)
    assert kinds["split"] == (2 * before if in_parts > 1 else 0)
    assert_same(found, expected)
