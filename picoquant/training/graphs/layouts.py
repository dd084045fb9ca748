"""Training programs whose feature maps stay in one memory layout of oneDNN's, channels last.

Where a convolution of oneDNN hands its result to an operator of Paddle's, Paddle reorders it from oneDNN's layout to
its own, and back before the next one: that was the most expensive part of a step. Batch-norm, relu6, concatenations
and nearest-neighbour resizing of oneDNN take the layout that they are given. But their gradients, given a feature map
and its gradient in *different* layouts, are computed by reference kernels, a hundred times as slow, and the
convolutions' gradients come in a layout of their own, blocks of 16 channels. So

- an operator is oneDNN's only where the feature maps that it reads are known to be channels last: forward
  convolutions write so (brgconv, brdgmm, with AVX-512);
- the image's gradient of a convolution with stride 1, which is a convolution itself, is computed by a forward one;
- any other gradient that is not known to be channels last goes through a convolution with one 1x1 filter of 1 a
  channel, which changes nothing but the layout.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from picoquant.utils.paddle_version.differences import onednn_attribute

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
_ONE_INPUT = {"batch_norm": ("X", "Y"), "relu6": ("X", "Out"), "nearest_interp_v2": ("X", "Out")}
_SEVERAL = ("concat", "sum")
# Gradient operators that need both in one layout: the feature map, its gradient, and what they return.
_GRADIENTS = {
    "batch_norm_grad": ("X", "Y@GRAD", "X@GRAD"),
    "relu6_grad": ("Out", "Out@GRAD", "X@GRAD"),
}
_AVX512_CORE = 0x27  # dnnl_cpu_isa_avx512_core of oneDNN's dnnl_types.h; later ones have further bits
_ONES = "@ones"  # ends the names of the identity's filters
_IMAGE_CHANNELS = 3  # the kernel for the first convolution writes another layout


def channels_last_available() -> bool:
    """Whether oneDNN's forward convolutions of 32-bit floats write channels last on this CPU."""
    library = onednn_library()
    return library is not None and library.dnnl_get_effective_cpu_isa() & _AVX512_CORE == _AVX512_CORE


def onednn_library() -> ctypes.CDLL | None:
    """The oneDNN that this process has loaded; None where it is not found."""
    if sys.platform != "linux":
        return None
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if "/libdnnl.so" in path:
            return ctypes.CDLL(path)
    return None


def keep_channels_last(block: Any, returned: Iterable[str]) -> None:
    """Let oneDNN compute the operators between its convolutions, before gradients are appended.

    Args:
        block: a `paddle.static` block, whose convolutions are oneDNN's already.
        returned: names of the variables that the program returns; they are converted to Paddle's layout.
    """
    known: set[str] = set()
    index = 0
    while index < len(block.ops):
        operator = block.ops[index]
        known.update(_channels_last(block, operator, known, may_set=True))
        if operator.type == "batch_norm" and _reads_image(block, index):
            _insert_identity(block, index, operator, "X", "X")
        else:
            index += 1
    _convert_returned(block, returned)


def gradients_channels_last(block: Any, start: int) -> None:
    """Bring the gradients that oneDNN's operators read into the layout of the feature maps.

    Args:
        block: a `paddle.static` block that `keep_channels_last` has changed.
        start: index of the first gradient operator in it.
    """
    _gradients_by_forward_convolutions(block, start)
    _split_gradients_of_concatenations(block, start)
    known: set[str] = set()
    index = 0
    while index < len(block.ops):
        operator = block.ops[index]
        if index >= start and operator.type in _GRADIENTS and _is_onednns(operator):
            image, gradient, result = _GRADIENTS[operator.type]
            if operator.input(gradient)[0] not in known:
                index += _insert_identity(block, index, operator, image, gradient)
            known.update(operator.output(result))
        else:
            known.update(_channels_last(block, operator, known, may_set=index >= start))
        index += 1


def _reads_image(block: Any, index: int) -> bool:
    """Whether a batch-norm normalises the result of the network's first convolution, which has a layout of its own."""
    name = block.ops[index].input("X")[0]
    makers = [operator for operator in block.ops[:index] if name in operator.output_arg_names]
    return bool(
        makers
        and makers[-1].type in _CONVOLUTIONS
        and _is_onednns(makers[-1])
        and _channels_read(block, makers[-1]) == _IMAGE_CHANNELS
        and block.var(name).shape[1] > _IMAGE_CHANNELS
        and not _is_frozen(block.ops[index])
    )


def _channels_read(block: Any, convolution: Any) -> int:
    return int(block.var(convolution.input("Filter")[0]).shape[1] * convolution.attr("groups"))


def _is_frozen(batch_norm: Any) -> bool:
    """Whether it has fixed statistics; oneDNN's gradient is that of statistics of the batch."""
    return bool(batch_norm.attr("is_test") or batch_norm.attr("use_global_stats"))


def _channels_last(block: Any, operator: Any, known: set[str], may_set: bool) -> list[str]:
    """The results of an operator that are channels last; `may_set`: make it oneDNN's where its inputs are."""
    kind = operator.type
    if kind in _CONVOLUTIONS:
        suits = _is_onednns(operator) and _channels_read(block, operator) > _IMAGE_CHANNELS
        return operator.output("Output") if suits else []
    if kind == "batch_norm" and _is_frozen(operator):
        return []
    if kind in _ONE_INPUT:
        read, written = _ONE_INPUT[kind]
    elif kind in _SEVERAL:
        read, written = "X", "Out"
    else:
        return []
    if not all(name in known and block.var(name).shape[1] > 1 for name in operator.input(read)):
        return []
    if may_set:
        operator._set_attr(onednn_attribute(), True)
    return operator.output(written) if _is_onednns(operator) else []


def _is_onednns(operator: Any) -> bool:
    return bool(operator.has_attr(onednn_attribute()) and operator.attr(onednn_attribute()))


def _convert_returned(block: Any, returned: Iterable[str]) -> None:
    """Convert what the program returns to Paddle's layout, which Paddle does only between operators."""
    makers = {name: operator for operator in block.ops for name in operator.output_arg_names}
    for name in returned:
        maker = makers.get(name)
        if maker is None or not _is_onednns(maker):
            continue
        value = block.var(name)
        raw = block.create_var(name=f"{name}@onednn", shape=value.shape, dtype=value.dtype)
        raw.stop_gradient = value.stop_gradient
        maker._rename_output(name, raw.name)
        for operator in block.ops:
            if name in operator.input_arg_names:
                operator._rename_input(name, raw.name)
        block.append_op(type="scale", inputs={"X": raw}, outputs={"Out": value}, attrs={"scale": 1.0})


def _gradients_by_forward_convolutions(block: Any, start: int) -> None:
    """Compute image gradients of 1x1 and depthwise convolutions of stride 1 by convolving the result's gradient.

    The filter is transposed, or turned by 180 degrees where it is depthwise.
    """
    for index in reversed(range(start, len(block.ops))):
        operator = block.ops[index]
        if operator.type.removesuffix("_grad") not in _CONVOLUTIONS or not operator.output("Input@GRAD"):
            continue
        weight = block.var(operator.input("Filter")[0])
        if weight.name.endswith(_ONES):  # of the identity, whose gradient is the identity
            _pass_on(block, index)
            continue
        turned = _turning(operator, weight.shape)
        if turned is None:
            continue
        kind, attributes = turned
        role, result = operator.attr("op_role"), operator.output("Input@GRAD")[0]
        shape = (
            [weight.shape[place] for place in attributes["axis"]] if kind == "transpose2" else weight.shape
        )
        other = block.create_var(name=f"{result}@filter", shape=shape, dtype=weight.dtype)
        outputs = {"Out": other}
        if kind == "transpose2":
            outputs["XShape"] = block.create_var(name=f"{result}@shape", shape=[0], dtype=weight.dtype)
        attributes["op_role"] = role
        block._insert_op(index, type=kind, inputs={"X": weight}, outputs=outputs, attrs=attributes)
        block._insert_op(
            index + 1,
            type=operator.type.removesuffix("_grad"),
            inputs={"Input": operator.input("Output@GRAD"), "Filter": [other.name]},
            outputs={"Output": [result]},
            attrs=_like(operator, list(operator.attr("paddings"))),
        )
        if operator.output("Filter@GRAD"):
            operator.desc.set_output("Input@GRAD", [])
        else:
            block._remove_op(index + 2)


def _split_gradients_of_concatenations(block: Any, start: int) -> None:
    """Compute Paddle's gradients of concatenations of channels by splits.

    The gradient operator takes shapes and the name of the layout from what was concatenated, whose memory it does not
    read: of oneDNN's maps the gradients would be said to be in oneDNN's layout, and are in Paddle's.
    """
    for index in reversed(range(start, len(block.ops))):
        operator = block.ops[index]
        if operator.type != "concat_grad" or _is_onednns(operator) or operator.attr("axis") != 1:
            continue
        parts, gradients = operator.input("X"), operator.output("X@GRAD")
        sections = [int(block.var(name).shape[1]) for name in parts]
        if len(gradients) != len(parts) or min(sections) < 1:
            continue
        named = [
            name if block.has_var(name) else f"{parts[place]}@unused" for place, name in enumerate(gradients)
        ]
        for name, part in zip(named, parts):
            if not block.has_var(name):
                block.create_var(name=name, shape=block.var(part).shape, dtype=block.var(part).dtype)
        attributes = {"axis": 1, "sections": sections, "num": 0, "op_role": operator.attr("op_role")}
        given = operator.input("Out@GRAD")
        block._remove_op(index)
        block._insert_op(index, type="split", inputs={"X": given}, outputs={"Out": named}, attrs=attributes)


def _pass_on(block: Any, index: int) -> None:
    """Remove gradient operator `index`, whose result is what it reads."""
    operator = block.ops[index]
    read, result = operator.input("Output@GRAD")[0], operator.output("Input@GRAD")[0]
    block._remove_op(index)
    for later in block.ops[index:]:
        if result in later.input_arg_names:
            later._rename_input(result, read)


def _turning(operator: Any, shape: tuple[int, ...]) -> tuple[str, dict[str, Any]] | None:
    """The operator that turns the filter, and its attributes; None where a forward convolution does not suit."""
    width_out, width_in, height, width = shape
    same = (
        set(operator.attr("strides")) == {1}
        and set(operator.attr("dilations")) == {1}
        and operator.attr("padding_algorithm") == "EXPLICIT"
        and list(operator.attr("paddings")) == [height // 2, width // 2]
        and height % 2 == width % 2 == 1
        and _is_onednns(operator)
    )
    if same and operator.attr("groups") == width_out and width_in == 1 and width_out > 1:
        return "flip", {"axis": [2, 3]}
    if same and operator.attr("groups") == 1 and height == width == 1:
        return "transpose2", {"axis": [1, 0, 2, 3]}
    return None


def _insert_identity(block: Any, index: int, operator: Any, image: str, read: str) -> int:
    """Insert, before an operator, a convolution that makes what it reads channels last; how many operators.

    Args:
        block: the block.
        index: of the operator.
        operator: what reads it.
        image: the operator's input whose shape and type are those of the result.
        read: the operator's input to convert.
    """
    value, name = block.var(operator.input(image)[0]), operator.input(read)[0]
    channels, role = value.shape[1], operator.attr("op_role")
    ones = block.create_var(name=f"{name}{_ONES}", shape=[channels, 1, 1, 1], dtype=value.dtype)
    ones.stop_gradient = True
    same = block.create_var(name=f"{name}@same", shape=value.shape, dtype=value.dtype)
    fill = {"shape": list(ones.shape), "value": 1.0, "dtype": value.dtype, "op_role": role}
    block._insert_op(index, type="fill_constant", inputs={}, outputs={"Out": ones}, attrs=fill)
    block._insert_op(
        index + 1,
        type="depthwise_conv2d",
        inputs={"Input": [name], "Filter": ones},
        outputs={"Output": same},
        attrs=_like(operator, [0, 0], channels),
    )
    operator._rename_input(name, same.name)
    return 2


def _like(operator: Any, paddings: list[int], groups: int | None = None) -> dict[str, Any]:
    """Attributes of a forward convolution of stride 1 in the place of a gradient operator."""
    return {
        "strides": [1, 1],
        "paddings": paddings,
        "dilations": [1, 1],
        "groups": operator.attr("groups") if groups is None else groups,
        "data_format": "NCHW",
        "padding_algorithm": "EXPLICIT",
        "op_role": operator.attr("op_role"),
        onednn_attribute(): True,
    }
