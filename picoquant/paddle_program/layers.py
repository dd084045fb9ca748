"""A convolution with what NPUs compute together with it: its bias, a batch-norm, a ReLU or ReLU6.

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
    """A convolution as an NPU runs it.

    Attributes:
        conv: the convolution.
        fused: the operators behind it that become part of it, in order.
        bias: name of the stored bias `[C]` among them; None without one.
    """

    conv: Operator
    fused: tuple[Operator, ...]
    bias: str | None

    @property
    def output(self) -> str:
        """The tensor that leaves the layer."""
        return self.fused[-1].name if self.fused else self.conv.name

    @property
    def inner(self) -> tuple[str, ...]:
        """The tensors that never exist on an NPU: all results but the last."""
        return tuple(op.name for op in (self.conv, *self.fused)[:-1])

    @property
    def activation(self) -> Operator | None:
        """The ReLU or ReLU6 at the end."""
        last = self.fused[-1] if self.fused else None
        return last if last is not None and last.op_type in FUSED_ACTIVATIONS else None


def fused_layers(graph: Graph) -> dict[str, FusedLayer]:
    """Every convolution with what is fused into it, by the convolution's result, in the network's order."""
    return {op.name: fused_layer(graph, op) for op in graph.operators if op.op_type in CONVOLUTIONS}


def fused_layer(graph: Graph, conv: Operator) -> FusedLayer:
    """A convolution with what is fused into it: a bias, a batch-norm, an activation, each where it alone follows."""
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
    """Name of the bias `[C]` that an `elementwise_add` adds to each channel (axis 1); None for any other."""
    tensor = graph.tensor(op.input("Y0") or "")
    rank = len(tensor.shape or ())
    return tensor.name if adds_bias(op.op_type, op.attributes.get("axis", -1), tensor.stored, rank) else None


def adds_bias(op_type: str, axis: int, stored: bool, rank: int) -> bool:
    """Whether an operator adds a bias of each channel: its second input's storage and rank decide, and the axis."""
    return op_type == "elementwise_add" and axis == 1 and stored and rank == 1
