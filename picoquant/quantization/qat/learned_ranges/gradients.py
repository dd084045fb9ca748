"""Backward operators of learned ranges, and cheaper kernels for gradients, put into a program after its backward.

A quantiser passes the gradient of its result on unchanged (straight through). With learned ranges only what lies
within the range passes: that is `clip_grad`, one pass. With `y` the quantised and `x` the plain activation,
`dy` and `dx` their gradients, and `r` the range, the range's own gradient is

- PACT: the sum of `dy` above the limit minus that below the negative limit. `dy - dx` is `dy` there and 0
  elsewhere, and `y` is `r` or `-r` there, so that is `sum((dy - dx) y) / r`;
- LSQ: `Q` or `-Q` outside, `round(x / s) - x / s` within, times `dy`: `sum(dy y - dx x) / s`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from picoquant.int8.operators import QuantizableOperator, quantised_name
from picoquant.paddle_program.static.programs import Inserter
from picoquant.quantization.qat.learned_ranges.strategy import ParameterGradient

STRAIGHT_THROUGH = "stright_throuth_estimator_grad"  # spelt so in Paddle
_BACKWARD = 1  # op_role
_FLOAT_MAX = 3.4e38


class BackwardInserter(Inserter):
    """Inserts operators of the backward pass."""

    def make(self, kind: str, name: str, like: Any, inputs: dict, attrs: dict, **changes: Any) -> Any:
        """Insert an operator with one result; the result is returned."""
        result = self.variable(name, like, **changes)
        self.operator(kind, inputs, {"Out": result}, {**attrs, "op_role": _BACKWARD})
        return result

    def unsqueeze(self, name: str, like: Any, source: Any) -> Any:
        """A scalar as `[1]`."""
        result = self.variable(name, like)
        outputs = {"Out": result, "XShape": self.variable(f"{like.name}@shape", like, shape=[0])}
        self.operator("unsqueeze2", {"X": source}, outputs, {"axes": [0], "op_role": _BACKWARD})
        return result

    def clipped(self, op: Any, source: Any, low: Any, high: Any) -> tuple[Any, Any]:
        """Make the gradient operator at the current place 0 outside of low ... high.

        Returns: the variables `dy` and `dx`.
        """
        dy, dx = (self._block.var(name) for name in (op.input("Out@GRAD")[0], op.output("X@GRAD")[0]))
        op.desc.set_type("clip_grad")
        op.desc.set_input("X", [source.name])
        op.desc.set_input("Min", [low.name])
        op.desc.set_input("Max", [high.name])
        op._set_attr("min", 0.0)
        op._set_attr("max", 0.0)
        self.index += 1
        return dy, dx

    def total(self, name: str, source: Any) -> Any:
        """The sum of all values, a scalar."""
        attrs = {"reduce_all": True, "dim": [0], "keep_dim": False}
        return self.make("reduce_sum", name, source, {"X": source}, attrs, shape=[])

    def bounds(self, limit: Any, factor: float) -> tuple[Any, Any]:
        """The negative and the positive of a parameter, times a factor."""
        name = f"{limit.name}@bound"
        attrs = {"bias": 0.0, "bias_after_scale": True}
        return tuple(
            self.make("scale", f"{name}{sign:+.0f}", limit, {"X": limit}, {**attrs, "scale": sign * factor})
            for sign in (-1.0, 1.0)
        )


def replace_straight_through(
    program: Any,
    operators: Sequence[QuantizableOperator],
    gradient_of: Callable[[BackwardInserter, Any, str], ParameterGradient],
) -> list[ParameterGradient]:
    """Replace the gradient of each activation's quantiser.

    Args:
        program: with its backward pass, before its optimiser; changed in place.
        operators: the quantised operators.
        gradient_of: called with an inserter at the gradient operator, the operator and the activation's name;
            changes the operator, adds the range's gradient and returns parameter and gradient.

    Returns: what `gradient_of` returned, in the order of the backward pass.
    """
    block = program.global_block()
    activations = {
        f"{quantised_name(operator.activation)}@GRAD": operator.activation for operator in operators
    }
    pairs = []
    index = 0
    while index < len(block.ops):
        op = block.ops[index]
        name = activations.get(op.input("Out@GRAD")[0]) if op.type == STRAIGHT_THROUGH else None
        if name is None:
            index += 1
            continue
        inserter = BackwardInserter(block, index)
        pairs.append(gradient_of(inserter, op, name))
        index = inserter.index
    program._sync_with_cpp()
    return pairs


def cheaper_gradients(program: Any) -> None:
    """Replace the gradients of relu and relu6 by `clip_grad`: the same condition, the same numbers.

    Paddle's CPU kernel of `relu6_grad` takes nine times as long as that of `clip_grad`, `relu_grad` nearly
    three times (Paddle 2.6.2, 8 million values).
    """
    block = program.global_block()
    for op in block.ops:
        if op.type in ("relu_grad", "relu6_grad"):
            high = 6.0 if op.type == "relu6_grad" else _FLOAT_MAX
            out = op.input("Out")
            op.desc.set_type("clip_grad")
            op.desc.remove_input("Out")
            op.desc.set_input("X", out)
            op._set_attr("min", 0.0)
            op._set_attr("max", high)
    program._sync_with_cpp()
