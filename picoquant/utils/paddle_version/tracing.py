"""Tracing on Paddle 3: programs of its own form, and functions that have lost the older one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from picoquant.utils.paddle_version.differences import paddle_3

# Functions that no longer add an operator to a program of the older form, and that operator's type; of Paddle 3.3's 58
# those that the detector's layers call.
_ONE = {name: name for name in ("sigmoid", "sqrt", "rsqrt", "exp", "tanh", "abs", "floor", "ceil", "log")}
_TWO = {
    "multiply": "elementwise_mul", "maximum": "elementwise_max", "minimum": "elementwise_min",
    "greater_than": "greater_than", "logical_and": "logical_and", "logical_or": "logical_or",
}  # fmt: skip
_MATMUL = "matmul"


@contextmanager
def newer_programs() -> Iterator[bool]:
    """Within the block Paddle 3 traces and writes programs of its own form, `.json`.

    Yields: whether it does; False on Paddle 2.6, which has the older form only.
    """
    if not paddle_3():
        yield False
        return
    from paddle.pir_utils import DygraphPirGuard

    with DygraphPirGuard():
        yield True


@contextmanager
def older_programs() -> Iterator[None]:
    """Within the block Paddle's functions add operators to a program of the older form, as those of 2.6 do."""
    if not paddle_3():
        yield
        return
    import paddle
    from paddle import _C_ops as functions
    from paddle.base.framework import Variable

    # Runs them as they are. Not in the environment: 2.6 runs them otherwise without it, with other last bits.
    paddle.set_flags({"FLAGS_enable_pir_with_pt_in_dy2st": 0})

    # The variables' own methods are those functions, too, but are not given the variable.
    names = (*_ONE, *_TWO, _MATMUL)
    own = [(holder, name, getattr(holder, name)) for holder in (functions, Variable) for name in names]
    for holder, name, _ in own:
        setattr(holder, name, _with_older_form(name, getattr(functions, name)))
    try:
        yield
    finally:
        for holder, name, function in own:
            setattr(holder, name, function)


def _with_older_form(name: str, function: Any) -> Any:
    """A function that adds an operator where it is given variables of an older program."""
    from paddle.base.framework import Variable

    def called(*arguments: Any, **more: Any) -> Any:
        if not arguments or not isinstance(arguments[0], Variable):
            return function(*arguments, **more)
        if name in _ONE:
            return _appended(_ONE[name], {"X": arguments[0]}, {})
        x, y, *flags = (*arguments, *more.values())
        if name in _TWO:
            attributes = {} if name.startswith("logical") else {"axis": -1}
            return _appended(_TWO[name], {"X": x, "Y": y}, attributes)
        transposed = [bool(flag) for flag in (*flags, False, False)]
        return _appended("matmul_v2", {"X": x, "Y": y}, {"trans_x": transposed[0], "trans_y": transposed[1]})

    return called


def _appended(kind: str, inputs: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """The result of an operator that is added to the program which is being traced."""
    from paddle.base.layer_helper import LayerHelper

    helper = LayerHelper(kind)
    compared = kind.startswith(("greater", "logical"))
    result = helper.create_variable_for_type_inference("bool" if compared else inputs["X"].dtype)
    helper.append_op(type=kind, inputs=inputs, outputs={"Out": result}, attrs=attributes)
    return result
