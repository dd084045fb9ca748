"""A convolution with the operators that an NPU fuses into it: bias, batch-norm, ReLU or ReLU6.

Paddle Lite's NNAdapter fuses all of them (source: `fuse_conv2d_add_into_conv2d.cc`,
`fuse_conv2d_batch_norm_into_conv2d.cc`, `fuse_conv2d_activation_into_conv2d.cc`).
"""

from __future__ import annotations

from dataclasses import dataclass

from picoquant.paddle_program.graph import Graph, Operator

CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
FUSED_ACTIVATIONS = ("relu", "relu6")
BATCH_NORM = "batch_norm"


@dataclass(frozen=True)
class FusedLayer:
    """A convolution and the operators that are fused into it.

    Attributes:
        conv: the convolution.
        fused: the operators that are fused into it, in execution order.
        bias: name of the stored bias `[C]` that one of them adds; None if there is none.
    """

    conv: Operator
    fused: tuple[Operator, ...]
    bias: str | None

    @property
    def output(self) -> str:
        """Name of the layer's result."""
        return self.fused[-1].name if self.fused else self.conv.name

    @property
    def inner(self) -> tuple[str, ...]:
        """Names of the results inside the layer, which an NPU never stores: all but the last."""
        return tuple(op.name for op in (self.conv, *self.fused)[:-1])

    @property
    def activation(self) -> Operator | None:
        """The ReLU or ReLU6 at the end of the layer; None if there is none."""
        last = self.fused[-1] if self.fused else None
        return last if last is not None and last.op_type in FUSED_ACTIVATIONS else None


def fused_layers(graph: Graph) -> dict[str, FusedLayer]:
    """All convolutions of a graph as fused layers, by the convolution's result, in execution order."""
    return {op.name: fused_layer(graph, op) for op in graph.operators if op.op_type in CONVOLUTIONS}


def fused_layer(graph: Graph, conv: Operator) -> FusedLayer:
    """A convolution with the bias, batch-norm and activation behind it, each optional, in this order.

    An operator is only fused if nothing else reads the result before it.
    """
    fused: list[Operator] = []
    bias = None
    name = conv.name
    for part in ("bias", BATCH_NORM, "activation"):
        users = graph.users(name)
        if len(users) != 1 or name in graph.outputs:
            break
        user = users[0]
        stored = stored_bias(graph, user)
        fits = {
            "bias": stored is not None,
            BATCH_NORM: user.op_type == BATCH_NORM,
            "activation": user.op_type in FUSED_ACTIVATIONS,
        }
        if fits[part]:
            fused.append(user)
            bias = stored or bias
            name = user.name
    return FusedLayer(conv, tuple(fused), bias)


def stored_bias(graph: Graph, op: Operator) -> str | None:
    """Name of the stored bias `[C]` that an `elementwise_add` adds at axis 1; None for other operators."""
    tensor = graph.tensor(op.input("Y0") or "")
    rank = len(tensor.shape or ())
    return tensor.name if adds_bias(op.op_type, op.attributes.get("axis", -1), tensor.stored, rank) else None


def adds_bias(op_type: str, axis: int, stored: bool, rank: int) -> bool:
    """Whether an operator adds a stored bias `[C]` to the channels.

    Args:
        op_type, axis: of the operator.
        stored, rank: whether its second input is stored, and the number of its dimensions.
    """
    return op_type == "elementwise_add" and axis == 1 and stored and rank == 1
