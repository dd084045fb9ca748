"""Changes of a traced program before and after its gradients are appended: oneDNN's convolutions, cheaper kernels."""

from __future__ import annotations

from typing import Any

from paddle.jit.dy2static.partial_program import PartialProgramLayerHook
from paddle.static import Program

from picoquant.training.graphs.depthwise import split_weight_gradients
from picoquant.training.graphs.layouts import gradients_channels_last, keep_channels_last
from picoquant.training.graphs.one_output import sum_of_depthwise
from picoquant.utils.paddle_version.differences import (
    clip_passes_gradients_at_its_bounds,
    onednn_attribute,
)

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
_MAP_AXES = 4


class Rewrite(PartialProgramLayerHook):
    """Changes a program before and after its gradients are appended.

    Attributes:
        returned: names of the variables that the program returns, set before it is changed.
    """

    returned: tuple[str, ...] = ()

    def before_append_backward(self, program: Program) -> Program:
        _add_biases_along_channels(program.global_block())
        for operator in program.global_block().ops:
            if operator.type in _CONVOLUTIONS:
                operator._set_attr(onednn_attribute(), True)
        return program

    def after_append_backward(self, program: Program, start: int) -> tuple[Program, int]:
        block = program.global_block()
        for operator in block.ops[start:]:
            if (
                operator.type == "relu6_grad"
                and not operator.attr(onednn_attribute())
                and not clip_passes_gradients_at_its_bounds()
            ):
                _cheaper_relu6_grad(operator)
            elif operator.type == "elementwise_add_grad" and operator.attr("axis") == 1:
                # Only its shape is read; what was convolved need not be kept for it.
                operator.desc.set_input("X", operator.input("Out@GRAD"))
        split_weight_gradients(block, start)
        self._choose_layouts(block, start)
        _convert_results_to_plain_layout(block, start)
        return program, start

    def _choose_layouts(self, block: Any, start: int) -> None:
        """Change the memory layouts of gradients; here as oneDNN chooses them."""


class ChannelsLast(Rewrite):
    """And keeps the feature maps in one layout of oneDNN's, see `layouts`."""

    def before_append_backward(self, program: Program) -> Program:
        sum_of_depthwise(program.global_block())
        super().before_append_backward(program)
        keep_channels_last(program.global_block(), self.returned)
        return program

    def _choose_layouts(self, block: Any, start: int) -> None:
        gradients_channels_last(block, start)


def _add_biases_along_channels(block: Any) -> None:
    """Add the biases `[C]` of convolutions along axis 1, and not reshaped to `[1, C, 1, 1]`: three times as fast.

    Paddle's functions reshape them, and the kernel for sums of that shape goes from value to value, gradients included.
    """
    reshaped = {op.output("Out")[0]: op for op in block.ops if op.type == "reshape2"}
    convolved = {name for op in block.ops if op.type in _CONVOLUTIONS for name in op.output("Output")}
    for operator in list(block.ops):
        if operator.type != "elementwise_add" or operator.input("X")[0] not in convolved:
            continue
        made = reshaped.get(operator.input("Y")[0])
        if made is not None and len(block.var(made.input("X")[0]).shape) == 1:
            operator._rename_input(operator.input("Y")[0], made.input("X")[0])
            operator._set_attr("axis", 1)
            block._remove_op(block.ops.index(made))


def _convert_results_to_plain_layout(block: Any, start: int) -> None:
    """Convert the gradients that the program returns from oneDNN's memory layout to the plain one.

    Between operators paddle converts them itself, but not those that a program returns.
    """
    read = {name for operator in block.ops for name in operator.input_arg_names}
    for operator in block.ops[start:]:
        if not operator.has_attr(onednn_attribute()) or not operator.attr(onednn_attribute()):
            continue
        shapes = operator.output("XShape") if "XShape" in operator.output_names else []  # hold no values
        for name in operator.output_arg_names:
            if name in read or name in shapes or not block.has_var(name):
                continue
            value = block.var(name)
            if len(value.shape) < _MAP_AXES:
                continue  # has one layout
            raw = block.create_var(name=f"{name}@onednn", shape=value.shape, dtype=value.dtype)
            operator._rename_output(name, raw.name)
            attributes = {"scale": 1.0, "op_role": operator.attr("op_role")}
            block.append_op(type="scale", inputs={"X": raw}, outputs={"Out": value}, attrs=attributes)


def _cheaper_relu6_grad(operator: Any) -> None:
    """Turn relu6_grad(y, dy) into clip_grad(y, dy): dy where 0 < y < 6, the same numbers.

    From Paddle 3 on clip_grad is dy where y is 0 or 6, too, and relu6_grad no longer slow.
    """
    description = operator.desc
    description.set_type("clip_grad")
    description.set_input("X", description.input("Out"))
    description.set_input("Out", [])
    operator._set_attr("min", 0.0)
    operator._set_attr("max", 6.0)
