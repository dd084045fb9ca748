"""What oneDNN's forward convolutions read, converted to channels last by an operator of the graph.

With AVX-512 they read and write maps channels last. Of maps in the plain layout Paddle's convolutions make a copy
each, and keep it as long as the graph exists: of S-NPU at 416 px with 8 images 350 MB. A map that comes channels last
they read as it is, and the graph frees it when it has been read.

Who hands over such a map leaves a note in its thread: from then on Paddle takes all of oneDNN's maps for maps that
belong channels last, whichever graph they are of, and converts them so where no operator says otherwise. So
`plain_again` must follow each run; it takes the note away by ending an executor that did nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle.base import core
from paddle.base.framework import _dygraph_guard

from picoquant.quantization.engine.tracing.blocks import NCHW, NHWC, ONEDNN, insert
from picoquant.training.fast import operators_run_in_caller
from picoquant.training.graphs.layouts import channels_last_available
from picoquant.utils.paddle_version.differences import onednn_attribute, paddle_3


def available() -> bool:
    """Whether a graph that is run now may hand over maps channels last, and `plain_again` takes the note away."""
    return not paddle_3() and operators_run_in_caller() and channels_last_available() and _can_be_taken_back()


def plain_again() -> None:
    """Let Paddle take oneDNN's maps for plain ones again, in this thread."""
    place = core.Place()
    place.set_place(core.CPUPlace())
    core.Executor(place)  # ends at once


def hand_over_channels_last(block: Any, op: Any, slot: str) -> None:
    """Let an operator of oneDNN read a plain map `[N, C, H, W]` channels last, in oneDNN's hands.

    Args:
        block: the graph.
        op: the operator.
        slot: of the map.
    """
    (plain,) = op.input(slot)
    images, channels, height, width = block.var(plain).shape
    steps = (
        ("handed", [images, channels, height, width], NCHW, ONEDNN),  # no copy
        ("last", [images, height, width, channels], ONEDNN, NHWC),
        ("read", [images, channels, height, width], NHWC, ONEDNN),  # no copy
    )
    read = plain
    for what, shape, before, after in steps:
        name = _new(block, f"{plain}@{what}", shape)
        attributes = {"src_layout": before, "dst_layout": after}
        insert(block, block.ops.index(op), "transfer_layout", {"X": read}, {"Out": name}, attributes, op)
        read = name
    op.desc.set_input(slot, [read])


def _new(block: Any, prefix: str, shape: list[int]) -> str:
    count = 0
    while block.has_var(f"{prefix}{count}"):
        count += 1
    return block.create_var(name=f"{prefix}{count}", shape=shape, dtype="float32").name


@cache
def _can_be_taken_back() -> bool:
    """Try it: a convolution that reads channels last, then one whose result Paddle converts as it thinks right."""
    images = np.arange(2 * 16 * 3 * 5, dtype=np.float32).reshape(2, 16, 3, 5) % 7
    weights = (np.arange(8 * 16, dtype=np.float32).reshape(8, 16, 1, 1) % 5) - 2
    expected = np.maximum(np.einsum("nchw,oc->nohw", images, weights[:, :, 0, 0]), 0)
    with _dygraph_guard(None), paddle.utils.unique_name.guard("layouts@"):
        executor = paddle.static.Executor(paddle.CPUPlace())
        try:
            for last in (True, False):
                program, result = _convolution(images.shape, weights.shape, last)
                feed = {"images": images, "weights": weights}
                (found,) = executor.run(program, feed=feed, fetch_list=[result], scope=paddle.static.Scope())
                plain_again()
                if not np.array_equal(found, expected):
                    return False
        finally:
            plain_again()
    return True


def _convolution(images: tuple[int, ...], weights: tuple[int, ...], last: bool) -> tuple[Any, Any]:
    """A program that convolves `images` by `weights` and drops what is negative; its result is the second."""
    program = paddle.static.Program()
    with paddle.static.program_guard(program, paddle.static.Program()):
        image, weight = paddle.static.data("images", images), paddle.static.data("weights", weights)
        result = F.relu(F.conv2d(image, weight))
    block = program.global_block()
    (op,) = (one for one in block.ops if one.type == "conv2d")
    op._set_attr(onednn_attribute(), True)
    if last:
        hand_over_channels_last(block, op, "Input")
        (convolved,) = op.output("Output")
        raw = _new(block, f"{convolved}@raw", list(result.shape))
        op._rename_output(convolved, raw)
        attributes = {"src_layout": ONEDNN, "dst_layout": NCHW}
        insert(
            block,
            block.ops.index(op) + 1,
            "transfer_layout",
            {"X": raw},
            {"Out": convolved},
            attributes,
            op,
        )
    return program, result
