"""A traced graph with its gradients, changed to hold less and to convert less between memory layouts.

Paddle's oneDNN convolutions convert what they read into oneDNN's layouts, and keep these copies, under the names of
what they read and write, as long as the graph exists: of S-NPU at 416 px with 8 images two gigabytes, more than all
else that a step holds. So convolutions of one geometry get the same names.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from picoquant.quantization.engine.tracing import channels_last
from picoquant.quantization.engine.tracing.blocks import NCHW, ONEDNN, insert, readers_of, remove
from picoquant.quantization.engine.tracing.kernels import ACTIVATION
from picoquant.utils.paddle_version.differences import paddle_3

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
_GRADIENTS = tuple(f"{op_type}_grad" for op_type in _CONVOLUTIONS)
# Gradients of rounding that pass unchanged: in Paddle 2.6, with its spelling, and in Paddle 3.
_STRAIGHT_THROUGH = ("stright_throuth_estimator_grad", f"{ACTIVATION}_grad")
_BATCH = 0  # axis


def hold_less(block: Any, start: int) -> int:
    """Change the operators of a graph, the same numbers coming out.

    Args:
        block: the graph.
        start: index of its first gradient operator.

    Returns: that index afterwards.
    """
    _pass_straight_through(block, start)
    if paddle_3():  # with which convolutions of one name did not compute the same
        return start
    _share_gradients_copies(block, start)
    return start + _share_convolutions_copies(block, start)


def _pass_straight_through(block: Any, start: int) -> None:
    """Read the gradient of a rounded activation in place of the copy of it that is the activation's."""
    gradients = block.ops[start:]
    readers = readers_of(gradients)
    written = [name for op in gradients for name in op.output_arg_names]
    for op in [one for one in gradients if one.type in _STRAIGHT_THROUGH]:
        (copied,), (gradient,) = op.output("X@GRAD"), op.input("Out@GRAD")
        if copied in readers and written.count(copied) == 1:
            for one in readers[copied]:
                one._rename_input(copied, gradient)
            readers[gradient] = readers.get(gradient, []) + readers.pop(copied)
            remove(block, op)


def _share_convolutions_copies(block: Any, start: int) -> int:
    """Give results of convolutions of a geometry one name; the number of inserted operators is returned."""
    names, before = _Names(block, "convolved"), len(block.ops)
    for op in [one for one in block.ops[:start] if one.type in _CONVOLUTIONS]:
        name = names(_geometry(block, op), op.output("Output")[0])
        if channels_last.available():
            channels_last.hand_over_channels_last(block, op, "Input")
        else:
            _hand_over(block, op, "Input")
        _take_back(block, op, "Output", name)
    return len(block.ops) - before


def _share_gradients_copies(block: Any, start: int) -> None:
    """Give what gradients of convolutions of a geometry read the same names, in oneDNN's hands, without a copy.

    Paddle itself would hand over a name only once: what is written to it later it would not see.
    """
    names = _Names(block, "gradient")
    for op in [one for one in block.ops[start:] if one.type in _GRADIENTS]:
        key = _geometry(block, op)
        for slot in ("Input", "Filter"):
            _hand_over(block, op, slot, names((slot, key), op.input(slot)[0]))
        _hand_over(block, op, "Output@GRAD")
        if op.output("Input@GRAD"):
            _take_back(block, op, "Input@GRAD")


def _hand_over(block: Any, op: Any, slot: str, name: str = "") -> None:
    """Let an operator of oneDNN read a tensor by another name, in its hands.

    What Paddle hands over itself the first run of a graph would hold to its end.
    """
    (plain,) = op.input(slot)
    name = name or _like(block, plain)
    _insert_transfer(block, block.ops.index(op), op, plain, name, (NCHW, ONEDNN))
    op.desc.set_input(slot, [name])


def _take_back(block: Any, op: Any, slot: str, name: str = "") -> None:
    """Convert a result of an operator of oneDNN to the plain layout; else each of its readers would."""
    (plain,) = op.output(slot)
    name = name or _like(block, plain)
    op._rename_output(plain, name)
    _insert_transfer(block, block.ops.index(op) + 1, op, name, plain, (ONEDNN, NCHW))


def _like(block: Any, name: str) -> str:
    """A new tensor with the shape of another, for each call."""
    value, count = block.var(name), 0
    while block.has_var(f"{name}@onednn{count}"):
        count += 1
    return block.create_var(name=f"{name}@onednn{count}", shape=value.shape, dtype=value.dtype).name


def _geometry(block: Any, op: Any) -> Hashable:
    """What makes oneDNN's convolution: equal for those that may have the same names."""
    shapes = (block.var(op.input(slot)[0]).shape for slot in ("Input", "Filter"))
    attributes = (op.attr(name) for name in ("strides", "paddings", "dilations"))
    results = tuple(slot for slot in op.output_names if op.output(slot))
    image, weight = (tuple(shape) for shape in shapes)
    return (
        op.type, image[_BATCH + 1 :], weight, *map(tuple, attributes), op.attr("groups"), op.attr("padding_algorithm"),
        results,
    )  # fmt: skip


class _Names:
    """New tensors, one for each key.

    Args:
        block: the graph.
        prefix: of their names.
    """

    def __init__(self, block: Any, prefix: str) -> None:
        self._block, self._prefix = block, prefix
        self._names: dict[Hashable, str] = {}

    def __call__(self, key: Hashable, like: str) -> str:
        """The tensor of a key, with the shape of another."""
        if key not in self._names:
            self._names[key] = f"{self._prefix}@{len(self._names)}"
            value = self._block.var(like)
            self._block.create_var(name=self._names[key], shape=value.shape, dtype=value.dtype)
        return self._names[key]


def _insert_transfer(
    block: Any, index: int, op: Any, source: str, result: str, layouts: tuple[int, int]
) -> None:
    """Insert the conversion of a tensor from a layout to another, in the role of `op`."""
    before, after = layouts
    attributes = {"src_layout": before, "dst_layout": after}
    insert(block, index, "transfer_layout", {"X": source}, {"Out": result}, attributes, op)
