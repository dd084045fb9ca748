"""A network's forward and its gradients as one static graph: for training, where each call of a graph costs.

Traced convolution by convolution, as dygraph runs them, S-NPU spends a tenth of a second of each step on entering and
leaving its 122 graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import nn
from paddle.base import core

from picoquant.paddle_program.graph import Graph
from picoquant.quantization.engine.feeds import cuts
from picoquant.quantization.engine.kernels import ACTIVATION, CLIPPED
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.training.fast import Rewrite, traced
from picoquant.utils.paddle_version.differences import clip_passes_gradients_at_its_bounds

_BELOW_1 = 1 - 2.0**-23  # times a float32: below it by one or two of its last bit

# What else `engine/operators.py` knows looks at values or shapes while it runs, which a graph does not have when it is
# traced, or is in no detector.
_TRACEABLE = {
    "conv2d", "depthwise_conv2d", "conv2d_transpose", "batch_norm", "relu", "relu6", "leaky_relu", "swish", "silu",
    "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "clip", "elementwise_add", "elementwise_sub", "elementwise_mul",
    "elementwise_div", "pool2d", "nearest_interp", "nearest_interp_v2", "bilinear_interp", "bilinear_interp_v2",
    "concat", "split", "reshape", "reshape2", "transpose", "transpose2", "flatten_contiguous_range", "squeeze2",
    "unsqueeze2", "scale", "softmax", "channel_shuffle", "shuffle_channel",
}  # fmt: skip
Stores = Sequence[MutableMapping[str, Any]]
_Key = tuple[tuple[str, ...], bool]  # outputs, and whether ranges and statistics follow


def traceable(graph: Graph) -> bool:
    """Whether all of a network can be one static graph."""
    return all(op.op_type in _TRACEABLE for op in graph.operators)


class TracedForward:
    """Computes tensors of a network, with gradients, as `FakeQuantNetwork.forward` does.

    Args:
        network: all of it `traceable`.
        stores: where its quantisers keep their tensors, by name.
    """

    def __init__(self, network: FakeQuantNetwork, stores: Stores) -> None:
        self._network, self._stores = network, (network.stored, *stores)
        self._key: _Key | None = None
        self._graph: Callable[..., list[Any]] | None = None

    def __call__(self, feed: Mapping[str, Any], outputs: Sequence[str], following: bool) -> list[Any]:
        """See `FakeQuantNetwork.forward`."""
        images = [feed[name] for name in self._network.graph.inputs]
        tensors = [store[name] for store, name in _floats(self._stores)]
        key = (tuple(outputs), following)
        if self._graph is None or key != self._key:
            self._graph, self._key = None, key
            core.clear_executor_cache()  # what oneDNN keeps for the graph before
            self._graph = self._trace(key, images, tensors)
        return self._graph(images, tensors)

    def _trace(self, key: _Key, images: list[Any], tensors: list[Any]) -> Callable[..., list[Any]]:
        sizes = [[None, *image.shape[1:]] for image in images], [one.shape for one in tensors]
        forward = _Forward(self._network, self._stores, key)
        graph = traced(forward.run, (images, tensors), sizes, _Rounding())
        # The first run of a graph frees nothing before its end: it has few images, and copies of what runs change.
        few = next(cuts(self._network.graph, len(images[0]), 1))
        first = graph([image[few] for image in images], [_copy(one) for one in tensors])
        sum(one.sum() for one in first).backward()
        return graph


def _copy(tensor: Any) -> Any:
    found = tensor.detach().clone()
    found.stop_gradient = tensor.stop_gradient
    return found


class _Forward(nn.Layer):
    """The forward with every tensor as an argument."""

    def __init__(self, network: FakeQuantNetwork, stores: Stores, key: _Key) -> None:
        super().__init__()
        self._parts = (network, stores)  # in a tuple: the network's parameters are not this layer's
        self._outputs, self._following = key

    def run(self, images: list[Any], tensors: list[Any]) -> list[Any]:
        network, stores = self._parts
        with _replaced(stores, tensors):
            feed = dict(zip(network.graph.inputs, images))
            # The scale by 1 gives back the plain layout: what a traced graph returns is not converted.
            return [paddle.scale(one) for one in network(feed, self._outputs, self._following)]


def _floats(stores: Stores) -> Iterator[tuple[MutableMapping[str, Any], str]]:
    """Where float tensors are; the others are sizes and axes, which are read while the graph is traced."""
    for store in stores:
        for name, value in store.items():
            if value.dtype == paddle.float32:
                yield store, name


@contextmanager
def _replaced(stores: Stores, tensors: Sequence[Any]) -> Iterator[None]:
    """Within the block the graph's variables stand for the tensors."""
    places = list(_floats(stores))
    before = [store[name] for store, name in places]
    try:
        for (store, name), tensor in zip(places, tensors):
            store[name] = tensor
        yield
    finally:
        for (store, name), tensor in zip(places, before):
            store[name] = tensor


class _Rounding(Rewrite):
    """Rounded activations are rounded again for the gradients; where a value was cut off, they are 0.

    What is rounded is kept for the gradient of the ReLU that made it, or for that of clipping; the rounded values, a
    third of what a step holds, need not be kept as well.
    """

    def after_append_backward(self, program: Any, start: int) -> tuple[Any, int]:
        block = program.global_block()
        rounded = {op.output("Out")[0]: op for op in block.ops[:start] if op.type == ACTIVATION}
        for op in list(block.ops[start:]):
            for name in sorted(rounded.keys() & set(op.input_arg_names)):
                again = f"{name}@again"
                if not block.has_var(again):
                    _round_again(block, op, rounded[name], again)
                op._rename_input(name, again)
            gradients = op.input("Out@GRAD") if "Out@GRAD" in op.input_names else []
            clipped = [rounded[name] for name in map(_of_gradient, gradients) if name in rounded]
            if clipped and CLIPPED in clipped[0].attr("op_namescope"):
                _clip_gradient(block, op, clipped[0])
        return super().after_append_backward(program, start)


def _of_gradient(name: str) -> str:
    return name.removesuffix("@GRAD")


def _round_again(block: Any, before: Any, op: Any, name: str) -> None:
    """Insert rounding with the range that `op` has rounded with."""
    value = block.var(op.output("Out")[0])
    block.create_var(name=name, shape=value.shape, dtype=value.dtype)
    # Not the range itself: what gradients write, they would not have kept for them.
    unchanged = block.create_var(name=f"{name}@scale", shape=[1], dtype=value.dtype)
    block._insert_op(
        block.ops.index(before), type=ACTIVATION,
        inputs={"X": op.input("X"), "InScale": op.input("InScale")}, outputs={"Out": name, "OutScale": unchanged},
        attrs={"bit_length": op.attr("bit_length"), "is_test": True, "op_role": before.attr("op_role")},
    )  # fmt: skip


def _clip_gradient(block: Any, gradient: Any, op: Any) -> None:
    """Make the gradient of rounding that of `clip`, between the ends of the range."""
    (absmax,) = op.input("InScale")
    ends = {"least": -1.0}
    if (
        clip_passes_gradients_at_its_bounds()
    ):  # a bound next to the range's end is none of the values that are cut off
        ends = {"least": -_BELOW_1, "most": _BELOW_1}
    made = {}
    for end, scale in ends.items():
        made[end] = block.create_var(name=f"{absmax}@{end}", shape=[1], dtype="float32").name
        block._insert_op(
            block.ops.index(gradient), type="scale", inputs={"X": absmax}, outputs={"Out": made[end]},
            attrs={"scale": scale, "op_role": gradient.attr("op_role")},
        )  # fmt: skip
    gradient.desc.set_type("clip_grad")
    for slot, names in (("X", op.input("X")), ("Min", [made["least"]]), ("Max", [made.get("most", absmax)])):
        gradient.desc.set_input(slot, names)
