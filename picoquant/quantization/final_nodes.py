"""The last tensors of a network that operators with weights compute."""

from __future__ import annotations

from picoquant.paddle_program.graph import Graph, Operator
from picoquant.paddle_program.layers import BATCH_NORM

_WEIGHTED = (
    "conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2", "embedding",
    BATCH_NORM, "sync_batch_norm", "layer_norm", "instance_norm",
)  # fmt: skip


def final_nodes(graph: Graph) -> list[str]:
    """The results of the last operators with weights: PaddleSlim's default distillation nodes.

    An operator is last when the chain of first consumers behind it contains no operator with weights. Where a stored
    bias is added to its result, the node is the sum.

    Returns: names of tensors, in the network's order.
    """
    order = {op.name: index for index, op in enumerate(graph.operators)}

    def weighted(op: Operator) -> bool:
        return op.op_type in _WEIGHTED and any(graph.tensor(name).stored for _, name in op.inputs)

    def following(op: Operator) -> Operator | None:
        after = [user for _, name in op.outputs for user in graph.users(name) if user.name != op.name]
        return min(after, key=lambda user: order[user.name], default=None)

    def last(op: Operator) -> bool:
        after = following(op)
        while after is not None:
            if weighted(after):
                return False
            after = following(after)
        return True

    names: list[str] = []
    for op in graph.operators:
        if not weighted(op) or not last(op):
            continue
        after = following(op)
        is_sum = after is not None and after.op_type == "elementwise_add"
        if is_sum and any(graph.tensor(name).stored for _, name in after.inputs):
            op = after
        names.extend(op.results)
    return names
