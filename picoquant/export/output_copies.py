"""The outputs of a program as Paddle 2.6 writes them: each the result of a `scale` by 1, which nothing else reads."""

from __future__ import annotations

from typing import Any

from picoquant.paddle_program.message import add_operator

_ATTRIBUTES = {"bias": 0.0, "bias_after_scale": True, "scale": 1.0}


def copy_outputs(program: Any) -> None:
    """Put a `scale` by 1 before what is fetched of a program, so that exports of both Paddles are one network.

    Args:
        program: a `ProgramDesc` message; changed in place.
    """
    block = program.blocks[0]
    variables = {variable.name: variable for variable in block.vars}
    kept = [op for op in block.ops if op.type != "fetch"]
    fetches = [op for op in block.ops if op.type == "fetch"]
    for number, fetch in enumerate(fetches):
        (name,) = fetch.inputs[0].arguments
        result = f"save_infer_model/scale_{number}.tmp_0"
        made = block.vars.add()
        made.CopyFrom(variables[name])
        made.name = result
        kept.append(add_operator(program, "scale", {"X": [name]}, {"Out": [result]}, _ATTRIBUTES))
        fetch.inputs[0].arguments[:] = [result]
    copies = [type(op).FromString(op.SerializeToString()) for op in (*kept, *fetches)]
    del block.ops[:]
    block.ops.extend(copies)
