"""The distillation loss: PaddleSlim's losses of pairs of variables, summed.

PaddleSlim 2.6 (`create_compressed_program.py`, `_parse_distill_loss`) adds a group's loss again for every later
group with a loss of the same name, so of two groups with `l2` the first counts twice. Here each counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddleslim.common.patterns_common import ALL_WEIGHT_OP
from paddleslim.dist import single_distiller


def distillation_loss(
    pairs: Sequence[Any], losses: str | Sequence[str], alphas: float | Sequence[float]
) -> Any:
    """The loss of the current program, a variable `[]` or `[1]`.

    Args:
        pairs: names of the teacher's and the student's variables, alternating; or a list of such lists.
        losses: name of the loss (`l2`: the mean squared difference; `soft_label`: the cross-entropy of the
            softmax over the last axis; `dkd`, `skd`); a list has one for each list of pairs.
        alphas: factor; a list has one for each list of pairs.
    """
    if isinstance(pairs[0], str):
        pairs, losses, alphas = [pairs], [losses], [alphas]
    total = 0.0
    for names, loss, alpha in zip(pairs, losses, alphas):
        for teacher, student in zip(names[::2], names[1::2]):
            total = total + getattr(single_distiller, loss)(teacher, student) * alpha
    return total


def final_nodes(program: Any) -> list[str]:
    """The results of the last operators with weights: PaddleSlim's default distillation nodes.

    An operator is last when the chain of first consumers behind it contains no operator with weights. Where a stored
    bias is added to its result, the node is the sum.

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
