"""What changed between Paddle's versions without an error, tried before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from picoquant.errors import ToolError
from picoquant.utils.paddle_version.differences import clip_gradient_at_its_bounds

OLDEST, BELOW = (2, 6, 2), (3, 4, 0)
# Gradient operators that training looks for by name.
_GRADIENTS = {"conv2d": "conv2d_grad", "relu6": "relu6_grad", "elementwise_add": "elementwise_add_grad"}


@cache
def require_known_paddle() -> None:
    """Try what picoquant relies on and Paddle's versions do differently; in a process once, 0.05 s.

    Raises: `ToolError` naming what the installed Paddle does otherwise.
    """
    import paddle

    fault = next(_faults(), "")
    if fault:
        raise ToolError(
            f"PaddlePaddle {paddle.__version__} {fault}: it has to be one from {text_of(OLDEST)} on and before "
            f"{text_of(BELOW)}; `picoquant doctor` says what is installed"
        )


def known_version(version: str) -> bool:
    """Whether a version of Paddle is one that picoquant was tried with, and no nightly build."""
    numbers = re.findall(r"\d+", version.partition("+")[0])[:3]
    return OLDEST <= tuple(map(int, numbers)) < BELOW and "dev" not in version


def text_of(version: tuple[int, ...]) -> str:
    """`OLDEST` or `BELOW` for a message."""
    return ".".join(map(str, version)).removesuffix(".0")


def _faults() -> Iterator[str]:
    import paddle

    if not known_version(paddle.__version__):
        yield "is no version that picoquant was tried with"
    if any(paddle.get_flags(["FLAGS_enable_pir_api"]).values()):
        yield "writes programs of another form (import picoquant before paddle, and leave FLAGS_enable_pir_api out)"
    if clip_gradient_at_its_bounds() not in ((0.0, 0.0), (1.0, 1.0)):
        yield "has another gradient of clip at its bounds than any known one"
    names = []
    for _ in range(2):
        with paddle.utils.unique_name.guard():
            names.append(paddle.utils.unique_name.generate("picoquant"))
    if names[0] != names[1]:
        yield "gives other names each time, so that files differ from run to run"
    missing = sorted(set(_GRADIENTS.values()) - _gradient_operators())
    if missing:
        yield f"has no gradient operator {missing[0]}"


def _gradient_operators() -> set[str]:
    """Types of the operators that compute the gradients of those in `_GRADIENTS`."""
    from paddle.base import core

    program = core.ProgramDesc()
    block = program.block(0)  # lives as long as its program
    for name in "xyzw":
        block.var(name.encode()).set_shape([1, 2, 4, 4])
    operators = (
        ("conv2d", {"Input": ["x"], "Filter": ["w"]}, {"Output": ["y"]}),
        ("relu6", {"X": ["y"]}, {"Out": ["z"]}),
        ("elementwise_add", {"X": ["z"], "Y": ["y"]}, {"Out": ["x"]}),
    )
    found: set[str] = set()
    for kind, inputs, outputs in operators:
        op = block.append_op()
        op.set_type(kind)
        for slot, names in inputs.items():
            op.set_input(slot, names)
        for slot, names in outputs.items():
            op.set_output(slot, names)
        op.check_attrs()
        made, _ = core.get_grad_op_desc(op, set(), [])
        found.update(one.type() for one in made)
    return found
