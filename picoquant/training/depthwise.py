"""Weight gradients of 5x5 depthwise convolutions, in programs whose convolutions are oneDNN's.

oneDNN 3.2 has a fast kernel for the weight gradient of a depthwise convolution, but only where the filter is
at most 3 wide and the padding at the sides at most half of that. Others go through im2col and a product
for each channel, which takes a quarter of a training step. So the five columns of a filter's gradient are
found in two parts, three columns from the image with zeros at its left, three from the image with zeros
at its right; the middle column is in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddle.base.framework import Operator

_KIND = "depthwise_conv2d_grad"
_SIZE, _PART = 5, 3
_WIDTH = 3  # axis of (N, C, H, W)


def split_weight_gradients(block: Any, start: int) -> None:
    """Rewrite every gradient from operator `start` on that `_can_split`.

    Args:
        block: a `paddle.static` block; operators are added where the gradient is.
    """
    for index in reversed(range(start, len(block.ops))):
        if _can_split(block, block.ops[index]):
            _split(block, index)


def _can_split(block: Any, operator: Any) -> bool:
    """Whether it is the gradient of a 5x5 depthwise convolution with padding 2, of image and filter."""
    if operator.type != _KIND or not (operator.output("Input@GRAD") and operator.output("Filter@GRAD")):
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
    """Leave the image's gradient to operator `index`; add operators for the filter's after it."""
    operator = block.ops[index]
    image, weight, result = (
        block.var(names[0])
        for names in (operator.input("Input"), operator.input("Filter"), operator.output("Filter@GRAD"))
    )
    operator.desc.set_output("Filter@GRAD", [])
    new = _After(block, index, result)
    small = new.columns("filter", weight, 0, _PART)  # only its shape is used
    parts = []
    for side, zeros in (("left", [2, 0]), ("right", [0, 2])):
        wide = new.variable(f"{side}_image", [*image.shape[:_WIDTH], -1])
        new.operator("pad", {"X": image}, {"Out": wide}, paddings=[0] * 6 + zeros, pad_value=0.0)
        parts.append(new.variable(side, small.shape))
        new.gradient(operator, wide, small, parts[-1])
    parts[1] = new.columns("right_end", parts[1], 1, _SIZE - _PART)
    new.operator("concat", {"X": parts}, {"Out": result}, axis=_WIDTH)


class _After:
    """Adds operators and variables to a block, one after another, behind operator `index`."""

    def __init__(self, block: Any, index: int, result: Any) -> None:
        self._block, self._index, self._result = block, index, result
        self._role = block.ops[index].attr("op_role")

    def variable(self, name: str, shape: Sequence[int]) -> Any:
        name = f"{self._result.name}@{name}"
        return self._block.create_var(name=name, shape=shape, dtype=self._result.dtype)

    def operator(self, kind: str, inputs: dict[str, Any], outputs: dict[str, Any], **attributes: Any) -> None:
        self._index += 1
        attributes["op_role"] = self._role
        self._block._insert_op(self._index, type=kind, inputs=inputs, outputs=outputs, attrs=attributes)

    def columns(self, name: str, value: Any, first: int, count: int) -> Any:
        """Columns `first` to `first + count` of a filter."""
        out = self.variable(name, [*value.shape[:_WIDTH], count])
        where = {"axes": [_WIDTH], "starts": [first], "ends": [first + count], "infer_flags": [1]}
        self.operator("slice", {"Input": value}, {"Out": out}, **where)
        return out

    def gradient(self, like: Any, image: Any, weight: Any, out: Any) -> None:
        """The filter's gradient for another image and filter; paddle makes gradients only as copies."""
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
