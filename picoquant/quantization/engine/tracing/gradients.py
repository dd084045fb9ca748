"""The gradients of a traced graph in which activations are rounded."""

from __future__ import annotations

from typing import Any

from picoquant.quantization.engine.tracing.blocks import forget_calls, insert
from picoquant.quantization.engine.tracing.kernels import ACTIVATION, CLIPPED
from picoquant.quantization.engine.tracing.memory import hold_less
from picoquant.quantization.engine.tracing.parts import gradients_in_parts
from picoquant.quantization.engine.tracing.pointwise import products
from picoquant.quantization.engine.tracing.running_statistics import gradients_without_maps
from picoquant.training.fast import Rewrite
from picoquant.utils.paddle_version.differences import clip_passes_gradients_at_its_bounds

_BELOW_1 = 1 - 2.0**-23  # times a float32: below it by one or two of its last bit


class Rounding(Rewrite):
    """Rounded activations are rounded again for the gradients; where a value was cut off, they are 0.

    What is rounded is kept for the gradient of the ReLU that made it, or for that of clipping; the rounded values, a
    third of what a step holds, need not be kept as well.

    Args:
        parts: of images that gradients of large feature maps are computed from, see `gradients_in_parts`.
    """

    def __init__(self, parts: int = 1) -> None:
        super().__init__()
        self._parts = parts

    def before_append_backward(self, program: Any) -> Any:
        program = super().before_append_backward(program)
        forget_calls(program.global_block().ops)
        return program

    def after_append_backward(self, program: Any, start: int) -> tuple[Any, int]:
        block = program.global_block()
        gradients_without_maps(block, start)
        rounded = {op.output("Out")[0]: op for op in block.ops[:start] if op.type == ACTIVATION}
        for op in list(block.ops[start:]):
            for name in sorted(rounded.keys() & set(op.input_arg_names)):
                again = f"{name}@again"
                if not block.has_var(again):
                    _round_again(block, op, rounded[name], again)
                op._rename_input(name, again)
            gradients = op.input("Out@GRAD") if "Out@GRAD" in op.input_names else []
            clipped = [rounded[name] for name in map(_of_gradient, gradients) if name in rounded]
            if clipped and CLIPPED in clipped[0].attr("op_namescope"):
                _clip_gradient(block, op, clipped[0])
        start = products(block, start)
        program, start = super().after_append_backward(program, start)
        gradients_in_parts(block, start, self._parts)
        start = hold_less(block, start)
        forget_calls(block.ops)
        return program, start


def _of_gradient(name: str) -> str:
    return name.removesuffix("@GRAD")


def _round_again(block: Any, before: Any, op: Any, name: str) -> None:
    """Insert rounding with the range that `op` has rounded with."""
    value = block.var(op.output("Out")[0])
    block.create_var(name=name, shape=value.shape, dtype=value.dtype)
    # Not the range itself: what gradients write, they would not have kept for them.
    unchanged = block.create_var(name=f"{name}@scale", shape=[1], dtype=value.dtype)
    insert(
        block, block.ops.index(before), ACTIVATION,
        {"X": op.input("X"), "InScale": op.input("InScale")}, {"Out": name, "OutScale": unchanged},
        {"bit_length": op.attr("bit_length"), "is_test": True}, before,
    )  # fmt: skip


def _clip_gradient(block: Any, gradient: Any, op: Any) -> None:
    """Make the gradient of rounding that of `clip`, between the ends of the range."""
    (absmax,) = op.input("InScale")
    ends = {"least": -1.0}
    if (
        clip_passes_gradients_at_its_bounds()
    ):  # a bound next to the range's end is none of the values that are cut off
        ends = {"least": -_BELOW_1, "most": _BELOW_1}
    made = {}
    for end, scale in ends.items():
        made[end] = block.create_var(name=f"{absmax}@{end}", shape=[1], dtype="float32").name
        insert(
            block,
            block.ops.index(gradient),
            "scale",
            {"X": absmax},
            {"Out": made[end]},
            {"scale": scale},
            gradient,
        )
    gradient.desc.set_type("clip_grad")
    for slot, names in (("X", op.input("X")), ("Min", [made["least"]]), ("Max", [made.get("most", absmax)])):
        gradient.desc.set_input(slot, names)
