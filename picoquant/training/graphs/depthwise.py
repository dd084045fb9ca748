"""Faster weight gradients of 5x5 depthwise convolutions, in programs that run oneDNN's convolutions.

oneDNN 3.2 has a fast kernel for the weight gradient of a depthwise convolution, but only where the filter is
at most 3 wide and the horizontal padding at most half of that. Others are computed by im2col and one matrix
product per channel, which takes a quarter of a training step. So the five columns of a filter's gradient are
computed in two parts: three columns from the image padded with zeros at its left, three from the image padded
at its right. The middle column is in both parts and dropped from one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddle.base.framework import Operator

_OP_TYPE = "depthwise_conv2d_grad"
_SIZE, _PART = 5, 3
_WIDTH = 3  # axis of (N, C, H, W)


def split_weight_gradients(block: Any, start: int) -> None:
    """Split the weight gradient of every 5x5 depthwise convolution into two oneDNN can compute fast.

    Args:
        block: a `paddle.static` block; operators are inserted behind each gradient operator.
        start: index of the first gradient operator in it.
    """
    for index in reversed(range(start, len(block.ops))):
        if _can_split(block, block.ops[index]):
            _split(block, index)


def _can_split(block: Any, operator: Any) -> bool:
    """Whether it computes image and filter gradient of a 5x5 depthwise convolution with padding 2."""
    if operator.type != _OP_TYPE or not (operator.output("Input@GRAD") and operator.output("Filter@GRAD")):
        return False
    channels, multiple, height, width = block.var(operator.input("Filter")[0]).shape
    return (
        (height, width, multiple) == (_SIZE, _SIZE, 1)
        and operator.attr("groups") == channels
        and set(operator.attr("paddings")) == {_SIZE // 2}
        and operator.attr("padding_algorithm") == "EXPLICIT"
        and set(operator.attr("dilations")) == {1}
        and operator.attr("data_format") in ("NCHW", "AnyLayout")
    )


def _split(block: Any, index: int) -> None:
    """Keep operator `index` for the image's gradient only; add operators for the filter's after it."""
    operator = block.ops[index]
    image, weight, result = (
        block.var(names[0])
        for names in (operator.input("Input"), operator.input("Filter"), operator.output("Filter@GRAD"))
    )
    operator.desc.set_output("Filter@GRAD", [])
    new = _Inserter(block, index, result)
    small = new.columns("filter", weight, 0, _PART)  # only its shape is used
    parts = []
    for side, zeros in (("left", [2, 0]), ("right", [0, 2])):
        wide = new.variable(f"{side}_image", [*image.shape[:_WIDTH], -1])
        new.operator("pad", {"X": image}, {"Out": wide}, paddings=[0] * 6 + zeros, pad_value=0.0)
        parts.append(new.variable(side, small.shape))
        new.gradient(operator, wide, small, parts[-1])
    parts[1] = new.columns("right_end", parts[1], 1, _SIZE - _PART)
    new.operator("concat", {"X": parts}, {"Out": result}, axis=_WIDTH)


class _Inserter:
    """Inserts operators into a block, one after another, behind operator `index`; creates their variables.

    Args:
        block: a `paddle.static` block.
        index: of the gradient operator, whose `op_role` the new operators get.
        result: the filter's gradient; new variables have its type and its name as prefix.
    """

    def __init__(self, block: Any, index: int, result: Any) -> None:
        self._block, self._index, self._result = block, index, result
        self._role = block.ops[index].attr("op_role")

    def variable(self, name: str, shape: Sequence[int]) -> Any:
        name = f"{self._result.name}@{name}"
        return self._block.create_var(name=name, shape=shape, dtype=self._result.dtype)

    def operator(
        self, op_type: str, inputs: dict[str, Any], outputs: dict[str, Any], **attributes: Any
    ) -> None:
        self._index += 1
        attributes["op_role"] = self._role
        self._block._insert_op_without_sync(
            self._index, type=op_type, inputs=inputs, outputs=outputs, attrs=attributes
        )

    def columns(self, name: str, value: Any, first: int, count: int) -> Any:
        """Columns `first` to `first + count - 1` of a filter."""
        out = self.variable(name, [*value.shape[:_WIDTH], count])
        where = {"axes": [_WIDTH], "starts": [first], "ends": [first + count], "infer_flags": [1]}
        self.operator("slice", {"Input": value}, {"Out": out}, **where)
        return out

    def gradient(self, like: Any, image: Any, weight: Any, out: Any) -> None:
        """Add a copy of gradient operator `like` that computes only the filter's gradient, of `image`.

        It is copied because paddle's own functions add no gradient operators; only the shape of `weight`
        is used.
        """
        self._index += 1
        description = self._block.desc._insert_op(self._index)
        description.copy_from(like.desc)
        description.set_input("Input", [image.name])
        description.set_input("Filter", [weight.name])
        description.set_output("Input@GRAD", [])
        description.set_output("Filter@GRAD", [out.name])
        added = Operator(self._block, description)
        added._set_attr("paddings", [_SIZE // 2, 0])
        self._block.ops.insert(self._index, added)
