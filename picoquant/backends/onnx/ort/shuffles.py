"""Channel shuffles without a shuffle: every channel is copied once, to where it is multiplied.

ShuffleNet's blocks put two tensors together, let their channels take turns (Reshape, Transpose, Reshape), hand the
first half on as it is and compute with the other. Which tensor each channel comes from is known: so what a convolution
takes is put together of slices of those tensors, in their order, and its weights are arranged alike; what is handed on
is not touched. A depthwise convolution's results then have that order, too, and the weights behind it. Sums of integers
do not depend on their order, so that results stay the same, bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from picoquant.backends.onnx.graph import Graph, Node, attribute, make_node
from picoquant.backends.onnx.inserter import replace_input

_TURNS = [0, 2, 1, 3, 4]
_GROUPS = 2
_AS_THEY_ARE = ("QuantizeLinear", "DequantizeLinear", "Clip")

Channel = tuple[str, int]  # of a tensor that is computed


class _Unusual(Exception):  # noqa: N818  not an error: the graph stays as it is
    """Something else than convolutions takes what was shuffled."""


@dataclass
class _Plan:
    """What is to be done.

    Attributes:
        taken: channels of each tensor that convolutions take, in the network's order, by its name.
        weights: for each constant, the axis along which it is arranged anew, and where each place goes.
        gone: nodes that nothing needs any more.
        scaling: the names of the scale and the zero point of all these tensors, by tensor.
    """

    taken: dict[str, list[Channel]] = field(default_factory=dict)
    weights: list[tuple[str, int, np.ndarray]] = field(default_factory=list)
    gone: list[Node] = field(default_factory=list)
    scaling: dict[str, list[str]] = field(default_factory=dict)


def unshuffle(graph: Graph) -> list[str]:
    """Write the channel shuffles of a graph as slices, where nothing but convolutions takes what they give.

    Args:
        graph: with quantised tensors and weights, none of which two operators share.

    Returns: names of the tensors that convolutions take now; empty where there are no shuffles, or unusual ones.
    """
    try:
        plan = _plan(graph)
    except _Unusual:
        return []
    for name, axis, places in plan.weights:
        value = graph.constants[name]
        moved = np.empty_like(value)
        moved[(slice(None),) * axis + (places,)] = value
        graph.constants[name] = moved
    pieces = _slices(graph, plan)
    for name, channels in plan.taken.items():
        _put_together(graph, plan, name, [pieces[part] for part in _ranges(channels)])
    for node in plan.gone:
        graph.remove(node)
    return list(plan.taken)


def _plan(graph: Graph) -> _Plan:
    plan, known = _Plan(), {}
    for concat in [node for node in graph.nodes if node.op_type == "Concat"]:
        shuffle = _shuffle(graph, concat)
        if shuffle is None:
            continue
        nodes, result = shuffle
        channels: list[Channel] = []
        for name in concat.input:
            back = graph.producer(name)
            if name not in known and (back is None or back.op_type != "DequantizeLinear"):
                raise _Unusual
            if name not in known:
                plan.scaling[name] = back.input[1:3]
            channels += known.get(name) or [(name, index) for index in range(_channels(graph, back))]
            if not _same(graph, back.input[1:3], graph.producer(result).input[1:3]):
                raise _Unusual
        turns = [channels[place] for place in np.arange(len(channels)).reshape(_GROUPS, -1).T.ravel()]
        plan.gone += [concat, *nodes]
        users = graph.users(result)
        if [user.op_type for user in users] == ["Split"]:
            plan.gone.append(users[0])
            half = len(turns) // 2
            for name, part in zip(users[0].output, (turns[:half], turns[half:])):
                if len(users[0].output) != 2 or 2 * half != len(turns):
                    raise _Unusual
                _hand_on(graph, plan, known, name, part)
        else:
            _take(graph, plan, result, turns)
    every = [channel for channels in plan.taken.values() for channel in channels]
    if len(set(every)) != len(every):  # what two shuffles take
        raise _Unusual
    return plan


def _hand_on(
    graph: Graph, plan: _Plan, known: dict[str, list[Channel]], name: str, channels: list[Channel]
) -> None:
    """Half of a shuffle's result: the next shuffle takes it, or convolutions do."""
    nodes, back = _rounded(graph, name)
    plan.gone += nodes[:-1]
    users = graph.users(back)
    if [user.op_type for user in users] == ["Concat"] and _shuffle(graph, users[0]) is not None:
        known[back] = channels
        plan.gone.append(nodes[-1])
    else:
        plan.gone.append(nodes[-1])
        _take(graph, plan, back, channels)


def _take(graph: Graph, plan: _Plan, name: str, channels: list[Channel]) -> None:
    """Convolutions take a tensor: its channels are sorted, and their weights moved."""
    if name in graph.outputs or not graph.users(name):
        raise _Unusual
    plan.taken[name] = channels
    if len(set(channels)) != len(channels):
        raise _Unusual
    place_of = {channel: place for place, channel in enumerate(_in_order(channels))}
    places = np.array([place_of[channel] for channel in channels])
    for conv in graph.users(name):
        _move(graph, plan, conv, name, places)


def _in_order(channels: list[Channel]) -> list[Channel]:
    """Channels by their tensors, in the order in which these appear, and by their places there."""
    tensors = list(dict.fromkeys(name for name, _ in channels))
    return sorted(channels, key=lambda channel: (tensors.index(channel[0]), channel[1]))


def _move(graph: Graph, plan: _Plan, node: Node, name: str, places: np.ndarray) -> None:
    """Note what a convolution's weights become when its input's channels are elsewhere, and what follows from it."""
    stored = [graph.producer(one) for one in node.input[1:3]] if node.op_type == "Conv" else []
    plain = len(stored) == 2 and all(
        back is not None
        and back.op_type == "DequantizeLinear"
        and back.input[0] in graph.constants
        and len(graph.users(back.output[0])) == len(graph.users(back.input[0])) == 1
        for back in stored
    )
    if not plain or node.input[0] != name:
        raise _Unusual
    groups, weight = attribute(node, "group", 1), graph.constants[stored[0].input[0]]
    if groups == 1:
        plan.weights.append((stored[0].input[0], 1, places))
        return
    if groups != len(places) or weight.shape[:2] != (groups, 1):
        raise _Unusual
    for back in stored:
        for one in back.input:
            if graph.constants[one].ndim:
                plan.weights.append((one, 0, places))
    names = [node.output[0]]
    for result in names:  # grows
        if result in graph.outputs:
            raise _Unusual
        for user in graph.users(result):
            if user.op_type in _AS_THEY_ARE:
                names.append(user.output[0])
            else:
                _move(graph, plan, user, result, places)


def _shuffle(graph: Graph, concat: Node) -> tuple[list[Node], str] | None:
    """The nodes behind a Concat of channels that make a shuffle of it, and what it gives; None where it is none."""
    if attribute(concat, "axis", 0) != 1 or len(concat.input) != _GROUPS:
        return None
    nodes: list[Node] = []
    name = concat.output[0]
    for kind in ("Reshape", "Transpose", "Reshape", ""):
        try:
            more, name = _rounded(graph, name)
        except _Unusual:
            return None
        nodes += more
        if kind:
            users = graph.users(name)
            if len(users) != 1 or users[0].op_type != kind or name in graph.outputs:
                return None
            nodes.append(users[0])
            name = users[0].output[0]
    apart, turned, together = (node for node in nodes if node.op_type in ("Reshape", "Transpose"))
    shapes = [list(graph.shapes.get(one.output[0], [])) for one in (concat, apart, together)]
    if len(shapes[0]) != 4 or list(attribute(turned, "perm", [])) != _TURNS or shapes[2] != shapes[0]:
        return None
    n, c, *area = shapes[0]
    return (nodes, name) if shapes[1] == [n, _GROUPS, c // _GROUPS, *area] else None


def _rounded(graph: Graph, name: str) -> tuple[list[Node], str]:
    """The pair that alone takes a tensor, rounds it and scales it back with the same numbers, and its result."""
    found: list[Node] = []
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        users = graph.users(name)
        if len(users) != 1 or users[0].op_type != kind or name in graph.outputs:
            raise _Unusual
        found.append(users[0])
        name = users[0].output[0]
    if name in graph.outputs or not _same(graph, found[0].input[1:3], found[1].input[1:3]):
        raise _Unusual
    return found, name


def _same(graph: Graph, some: list[str], others: list[str]) -> bool:
    return all(np.array_equal(graph.constants[one], graph.constants[two]) for one, two in zip(some, others))


def _channels(graph: Graph, back: Node) -> int:
    """How many channels a tensor has that was rounded."""
    maker = graph.producer(back.input[0])
    while maker is not None and maker.op_type == "Clip":
        maker = graph.producer(maker.input[0])
    shape = (
        graph.shapes.get(maker.input[0], [])
        if maker is not None and maker.op_type == "QuantizeLinear"
        else []
    )
    if len(shape) != 4 or not shape[1]:
        raise _Unusual
    return shape[1]


def _ranges(channels: list[Channel]) -> list[tuple[str, int, int]]:
    """Channels in order, as ranges of the tensors that they are of: the first and the end."""
    found: list[tuple[str, int, int]] = []
    for tensor, index in _in_order(channels):
        if found and found[-1][0] == tensor and found[-1][2] == index:
            found[-1] = (tensor, found[-1][1], index + 1)
        else:
            found.append((tensor, index, index + 1))
    return found


def _slices(graph: Graph, plan: _Plan) -> dict[tuple[str, int, int], str]:
    """Cut every tensor into the ranges that are taken of it; returns the slices' names."""
    made: dict[tuple[str, int, int], str] = {}
    every = [part for channels in plan.taken.values() for part in _ranges(channels)]
    for tensor in dict.fromkeys(name for name, _, _ in every):
        parts = sorted(part for part in every if part[0] == tensor)
        if len(parts) == 1:
            made[parts[0]] = tensor
            continue
        sizes = f"{tensor}.sizes"
        graph.constants[sizes] = np.array([end - first for _, first, end in parts])
        names = [f"{tensor}.from_{first}" for _, first, _ in parts]
        new = [make_node("Split", [tensor, sizes], names, f"{tensor}.parts", axis=1)]
        for part, name in zip(parts, names):
            more, made[part] = _pair(name, plan.scaling[tensor])
            new += more
        for node in reversed(new):
            graph.insert_after(graph.producer(tensor), node)
    return made


def _put_together(graph: Graph, plan: _Plan, name: str, pieces: list[str]) -> None:
    """Let what takes a tensor take its pieces in its place."""
    users, taken = graph.users(name), pieces[0]
    if len(pieces) > 1:
        stem = f"{name}.sorted"
        more, taken = _pair(stem, plan.scaling[plan.taken[name][0][0]])
        graph.insert_before(users[0], [make_node("Concat", pieces, [stem], stem, axis=1), *more])
    for user in users:
        replace_input(user, name, taken)


def _pair(name: str, scaling: list[str]) -> tuple[list[Node], str]:
    """What rounds a tensor, and scales it back, and the name of the result."""
    stored, back = f"{name}.uint8", f"{name}.back"
    return [
        make_node("QuantizeLinear", [name, *scaling], [stored], stored),
        make_node("DequantizeLinear", [stored, *scaling], [back], back),
    ], back
