"""Convolutions with one output channel as depthwise ones, whose results are summed over the channels.

oneDNN computes output channels in blocks of 16: of a 5x5 convolution to one channel, as the alignment map of
PicoDet's 2022 head is, it computes 15 sixteenths for nothing, forward and in both gradients. Its depthwise kernels
have no such blocks, and a 1x1 convolution with weights of 1 sums their results.
"""

from __future__ import annotations

from typing import Any

_FEW = 16  # input channels; of fewer, nothing is gained


def sum_of_depthwise(block: Any) -> None:
    """Replace the convolutions to one channel, before gradients are appended.

    Args:
        block: a `paddle.static` block.
    """
    for index in reversed(range(len(block.ops))):
        if _has_one_output(block, block.ops[index]):
            _replace(block, index)


def _has_one_output(block: Any, operator: Any) -> bool:
    if operator.type != "conv2d" or operator.attr("groups") != 1:
        return False
    outputs, inputs, height, width = block.var(operator.input("Filter")[0]).shape
    return outputs == 1 and inputs >= _FEW and height * width > 1


def _replace(block: Any, index: int) -> None:
    """Filter `[1, C, h, w]` -> depthwise `[C, 1, h, w]`, the same values in the same order; then a sum."""
    operator = block.ops[index]
    weight, result = (block.var(name) for name in (operator.input("Filter")[0], operator.output("Output")[0]))
    image = operator.input("Input")[0]
    _, channels, height, width = weight.shape
    role = operator.attr("op_role")

    def variable(what: str, shape: list[int]) -> Any:
        return block.create_var(name=f"{result.name}@{what}", shape=shape, dtype=result.dtype)

    each = variable("filters", [channels, 1, height, width])
    kept = variable("filter_shape", [0, *weight.shape])
    apart = variable("channels", [result.shape[0], channels, *result.shape[2:]])
    ones = variable("one", [1, channels, 1, 1])
    ones.stop_gradient = True
    kinds: tuple[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]], ...] = (
        ("reshape2", {"X": weight}, {"Out": each, "XShape": kept}, {"shape": list(each.shape)}),
        (
            "depthwise_conv2d",
            {"Input": [image], "Filter": each},
            {"Output": apart},
            {**_attributes(operator), "groups": channels},
        ),
        ("fill_constant", {}, {"Out": ones}, {"shape": list(ones.shape), "value": 1.0, "dtype": ones.dtype}),
        (
            "conv2d",
            {"Input": apart, "Filter": ones},
            {"Output": result},
            {**_attributes(operator), "strides": [1, 1], "paddings": [0, 0], "dilations": [1, 1]},
        ),
    )
    block._remove_op(index)
    for place, (kind, inputs, outputs, attributes) in enumerate(kinds, index):
        attributes["op_role"] = role
        block._insert_op(place, type=kind, inputs=inputs, outputs=outputs, attrs=attributes)


def _attributes(operator: Any) -> dict[str, Any]:
    names = ("strides", "paddings", "dilations", "groups", "data_format", "padding_algorithm")
    return {name: operator.attr(name) for name in names}
