"""A model as opt partitioned it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from picoquant.paddle_program.graph import (
    _CONVERSIONS,
    BORDER,
    CONVERSION,
    CPU,
    NPU,
    Operator,
    Split,
    _attributes,
    _operator,
    _stored_types,
    _tensors,
    plain_name,
)
from picoquant.paddle_program.program import read_program


def read_split(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Split:
    """Read what `OptTool.run(…, out_type="protobuf")` wrote.

    Args:
        folder: what it wrote.
        shapes: of the tensors of the program that opt was given; opt does not list all of them.

    Raises: `ToolError` when it is not what this reads.
    """
    program = read_program(folder / "model")
    main = program.blocks[0]
    tensors = _tensors(main, _stored_types(folder / "params", main), shapes)
    operators: list[Operator] = []
    piece = 0
    for op in main.ops:
        if op.type == "subgraph":
            block = program.blocks[_attributes(op)["sub_block"]]
            operators += [_operator(inner, NPU, piece) for inner in block.ops]
            piece += 1
        elif op.type in ("feed", "fetch"):
            operators.append(_operator(op, BORDER, -1))
        else:
            place = CONVERSION if op.type.startswith(_CONVERSIONS) else CPU
            operators.append(_operator(op, place, -1))
    feeds = [op for op in operators if op.kind == "feed"]
    fetches = [op for op in operators if op.kind == "fetch"]
    return Split(
        tuple(operators),
        tensors,
        tuple(name for op in feeds for _, name in op.outputs),
        tuple(plain_name(name) for op in fetches for _, name in op.inputs),
    )
