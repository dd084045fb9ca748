"""Gradients of convolutions of large feature maps, computed from a few images at a time.

oneDNN's kernels want maps in blocks of 16 channels, and Paddle keeps the copies as long as the graph exists; a map of
24 channels is one of 32 then. The images' parts share one copy.
"""

from __future__ import annotations

from math import prod
from typing import Any

from paddle.base.framework import Operator

from picoquant.quantization.engine.tracing.blocks import insert, remove
from picoquant.utils.paddle_version.differences import paddle_3

_GRADIENTS = ("conv2d_grad", "depthwise_conv2d_grad")
_LARGE = 250_000  # values of a map of one image
_BATCH = 0  # axis


def gradients_in_parts(block: Any, start: int, parts: int) -> None:
    """Divide the images among as many operators.

    Args:
        block: the graph.
        start: index of its first gradient operator.
        parts: what the number of images can be divided by; 1: nothing is changed.
    """
    if parts == 1 or paddle_3():  # with which these operators were not tried
        return
    for op in list(block.ops[start:]):
        if op.type in _GRADIENTS and prod(block.var(op.input("Input")[0]).shape[1:]) >= _LARGE:
            _divide(block, op, parts)


def _divide(block: Any, op: Any, parts: int) -> None:
    index = block.ops.index(op)
    read = {slot: _several(block, op.input(slot)[0], "part", parts) for slot in ("Input", "Output@GRAD")}
    written = {
        slot: _several(block, op.output(slot)[0], "part", parts)
        for slot in ("Input@GRAD", "Filter@GRAD")
        if op.output(slot)
    }
    along = {"axis": _BATCH}
    for slot, names in read.items():
        inputs, outputs = {"X": op.input(slot)}, {"Out": names}
        insert(block, index, "split", inputs, outputs, {**along, "num": parts}, op)
    index += len(read)
    for part in range(parts):
        description = block.desc._insert_op(index)
        description.copy_from(op.desc)
        for slot, names in read.items():
            description.set_input(slot, [names[part]])
        for slot, names in written.items():
            description.set_output(slot, [names[part]])
        block.ops.insert(index, Operator(block, description))
        index += 1
    together = {"Input@GRAD": ("concat", along), "Filter@GRAD": ("sum", {})}
    for slot, names in written.items():
        op_type, attributes = together[slot]
        insert(block, index, op_type, {"X": names}, {"Out": op.output(slot)}, attributes, op)
    remove(block, op)


def _several(block: Any, name: str, what: str, count: int) -> list[str]:
    """New tensors like one, but for the number of images where there is one."""
    value = block.var(name)
    return [
        block.create_var(name=f"{name}@{what}{number}", shape=value.shape, dtype=value.dtype).name
        for number in range(count)
    ]
