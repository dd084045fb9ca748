"""Which variables are distilled when the user names none: AutoCompression's choice, found quickly.

PaddleSlim (`paddleslim/common/patterns.py`, `find_final_nodes`) looks through all operators for each step
it takes from each operator. The choice is the same here, from tables made once.
"""

from __future__ import annotations

from typing import Any

from paddleslim.common.patterns_common import ALL_WEIGHT_OP


def final_nodes(program: Any) -> list[str]:
    """The results of the last operators with weights.

    An operator is last when the chain of first consumers behind it holds no operator with weights; where a
    stored bias is added to its result, the sum is taken.

    Args:
        program: an inference program.

    Returns: names of variables, in the program's order.
    """
    block = program.global_block()
    ops = list(block.ops)
    stored = {variable.name for variable in program.list_vars() if variable.persistable}
    readers: dict[str, list[int]] = {}
    for index, op in enumerate(ops):
        for name in op.input_arg_names:
            readers.setdefault(name, []).append(index)

    def weighted(index: int) -> bool:
        inputs = ops[index].input_arg_names
        return ops[index].type in ALL_WEIGHT_OP and any(name in stored for name in inputs)

    def following(index: int) -> int | None:
        after = [i for name in ops[index].output_arg_names for i in readers.get(name, []) if i != index]
        return min(after, default=None)

    def last(index: int) -> bool:
        after = following(index)
        while after is not None:
            if weighted(after):
                return False
            after = following(after)
        return True

    names: list[str] = []
    for index, op in enumerate(ops):
        if not weighted(index) or not last(index):
            continue
        after = following(index)
        is_sum = after is not None and ops[after].type == "elementwise_add"
        if is_sum and any(name in stored for name in ops[after].input_arg_names):
            names.extend(ops[after].output_arg_names)
            continue
        names.extend(op.output("Y") if op.type == "batch_norm" else op.output_arg_names)
    return names
