"""Backward of learned ranges, and cheaper kernels for gradients, put into a program after its backward.

A quantiser hands the gradient of its result on as it is (straight through). With learned ranges only what lies
within the range is handed on: that is `clip_grad`, one pass. With `y` the quantised and `x` the plain activation,
`dy` and `dx` their gradients, and `r` the range, the range's own gradient is

- PACT: the sum of `dy` above the limit less that below the negative limit. `dy - dx` is `dy` there and 0
  elsewhere, and `y` is `r` or `-r` there, so that is `sum((dy - dx) y) / r`;
- LSQ: `Q` or `-Q` outside, `round(x / s) - x / s` within, times `dy`: `sum(dy y - dx x) / s`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from picoquant.int8.operators import QuantizedOperator, quantised_name, scale_name
from picoquant.paddle_program.static import Inserter
from picoquant.quantization.qat.learned_ranges.lsq import gradient_factor
from picoquant.quantization.qat.learned_ranges.pact import limit_name

STRAIGHT_THROUGH = "stright_throuth_estimator_grad"  # so spelt in Paddle
_BACKWARD = 1  # op_role
_NEXT = 1 + 2.0**-23  # times this, a float is the next larger one or the one after
_LARGEST = 3.4e38
_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid")


def add_range_gradients(
    program: Any, operators: Iterable[QuantizedOperator], bits: int, lsq: float | None
) -> list[tuple[Any, Any]]:
    """Change the quantisers' gradients to those of learned ranges.

    Args:
        program: with backward, before its optimiser.
        operators: what is quantised.
        bits: of activations.
        lsq: what LSQ's gradients are multiplied by; None: PACT's gradients.

    Returns: each range's parameter and its gradient.
    """
    block = program.global_block()
    wanted = {f"{quantised_name(operator.activation)}@GRAD": operator.activation for operator in operators}
    pairs = []
    index = 0
    while index < len(block.ops):
        op = block.ops[index]
        name = wanted.get(op.input("Out@GRAD")[0]) if op.type == STRAIGHT_THROUGH else None
        if name is None:
            index += 1
            continue
        inserter = _Backward(block, index)
        if lsq is None:
            pairs.append(_pact(inserter, op, name))
        else:
            pairs.append(_lsq(inserter, op, name, lsq, bits))
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
            largest = 6.0 if op.type == "relu6_grad" else _LARGEST
            out = op.input("Out")
            op.desc.set_type("clip_grad")
            op.desc.remove_input("Out")
            op.desc.set_input("X", out)
            op._set_attr("min", 0.0)
            op._set_attr("max", largest)
    program._sync_with_cpp()


class _Backward(Inserter):
    """Inserts operators of the backward pass."""

    def make(self, kind: str, name: str, like: Any, inputs: dict, attrs: dict, **changes: Any) -> Any:
        """Insert an operator with one result; gives the result."""
        result = self.variable(name, like, **changes)
        self.operator(kind, inputs, {"Out": result}, {**attrs, "op_role": _BACKWARD})
        return result

    def clipped(self, op: Any, source: Any, low: Any, high: Any) -> tuple[Any, Any]:
        """Make the gradient at the current place 0 outside of low … high; gives `dy` and `dx`."""
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
        """The sum of all values."""
        attrs = {"reduce_all": True, "dim": [0], "keep_dim": False}
        return self.make("reduce_sum", name, source, {"X": source}, attrs, shape=[])

    def bounds(self, limit: Any, factor: float) -> tuple[Any, Any]:
        """The negative and the positive of a parameter."""
        name = f"{limit.name}@bound"
        attrs = {"bias": 0.0, "bias_after_scale": True}
        return tuple(
            self.make("scale", f"{name}{sign:+.0f}", limit, {"X": limit}, {**attrs, "scale": sign * factor})
            for sign in (-1.0, 1.0)
        )


def _pact(inserter: _Backward, op: Any, name: str) -> tuple[Any, Any]:
    block = op.block
    source, quantised = block.var(name), block.var(quantised_name(name))
    limit = block.var(limit_name(name))
    # What lies on the limit is not clipped by PaddleSlim's operators, but would be by clip_grad.
    dy, dx = inserter.clipped(op, source, *inserter.bounds(limit, _NEXT))
    cut = inserter.make("elementwise_sub", f"{name}@cut", source, {"X": dy, "Y": dx}, {"axis": -1})
    if _never_negative(block, name):
        total = inserter.total(f"{name}@cut.total", cut)
        shape = inserter.variable(f"{limit.name}@shape", limit, shape=[0])
        gradient = inserter.variable(f"{limit.name}@GRAD", limit)
        outputs = {"Out": gradient, "XShape": shape}
        inserter.operator("unsqueeze2", {"X": total}, outputs, {"axes": [0], "op_role": _BACKWARD})
        return limit, gradient
    inputs = {"X": cut, "Y": quantised}
    signed = inserter.make("elementwise_mul", f"{name}@cut.signed", source, inputs, {"axis": -1})
    total = inserter.total(f"{name}@cut.total", signed)
    inputs = {"X": total, "Y": block.var(scale_name(name))}
    return limit, inserter.make("elementwise_div", f"{limit.name}@GRAD", limit, inputs, {"axis": -1})


def _lsq(inserter: _Backward, op: Any, name: str, rate: float, bits: int) -> tuple[Any, Any]:
    block = op.block
    source, quantised = block.var(name), block.var(quantised_name(name))
    limit = block.var(scale_name(name))
    dy, dx = inserter.clipped(op, source, *inserter.bounds(limit, 1.0))
    axis = {"axis": -1}
    outer = inserter.make("elementwise_mul", f"{name}@outer", source, {"X": dy, "Y": quantised}, axis)
    inner = inserter.make("elementwise_mul", f"{name}@inner", source, {"X": dx, "Y": source}, axis)
    rest = inserter.make("elementwise_sub", f"{name}@rest", source, {"X": outer, "Y": inner}, axis)
    total = inserter.total(f"{name}@rest.total", rest)
    attrs = {"scale": rate * gradient_factor(source, bits), "bias": 0.0, "bias_after_scale": True}
    scaled = inserter.make("scale", f"{name}@rest.scaled", total, {"X": total}, attrs)
    inputs = {"X": scaled, "Y": limit}
    return limit, inserter.make("elementwise_div", f"{limit.name}@GRAD", limit, inputs, axis)


def _never_negative(block: Any, name: str) -> bool:
    """Whether a variable is the result of an operator that gives no negative value."""
    makers = [op for op in block.ops if name in op.output_arg_names]
    return bool(makers) and makers[0].type in _NOT_NEGATIVE
