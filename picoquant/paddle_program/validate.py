"""Checks that Paddle's native code can read a program; on many damaged ones it crashes or runs forever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from picoquant.errors import WeightsError

_NOTHING = "@EMPTY@"  # Paddle's name for an argument that is left out


def require_sound(program: Any, path: Path) -> None:
    """Check a program against Paddle's own description of its operators.

    Args:
        program: a `ProgramDesc` message.
        path: its file, for error messages.

    Raises: `WeightsError` naming the first block or operator with a fault.
    """
    fault = next(_faults(program), None)
    if fault:
        raise WeightsError(f"{path} is a damaged Paddle program ({fault}): export the model again")


def _faults(program: Any) -> Iterator[str]:
    from paddle.base.framework import OpProtoHolder

    if not program.IsInitialized():  # Python's parser accepts missing required fields
        yield "a field that must be there is missing"
    if any(
        block.idx != place or not -1 <= block.parent_idx < place for place, block in enumerate(program.blocks)
    ):
        yield "its blocks are not nested as they say"
        return
    known = OpProtoHolder.instance()
    declared: list[set[str]] = []
    for block in program.blocks:
        outer = declared[block.parent_idx] if block.parent_idx >= 0 else set()
        declared.append(outer | {variable.name for variable in block.vars})
        for place, op in enumerate(block.ops):
            name = f"operator {place}, {op.type[:50]!r}"
            try:
                description = known.get_op_proto(op.type)
            except ValueError:
                yield f"{name}, is none of Paddle's"
                continue
            yield from (f"{name}, {fault}" for fault in _faults_of(op, description, declared[-1]))


def _faults_of(op: Any, description: Any, declared: set[str]) -> Iterator[str]:
    for word, slots, expected in (
        ("takes", op.inputs, description.inputs),
        ("gives", op.outputs, description.outputs),
    ):
        present = {slot.parameter: slot.arguments for slot in slots}
        for slot in expected:
            if not (slot.dispensable or slot.intermediate or present.get(slot.name)):
                yield f"{word} no {slot.name}"
        for name in (name for names in present.values() for name in names):
            if name not in declared and name != _NOTHING:
                yield f"{word} {name[:50]!r}, which is no variable"
