"""Channel shuffles written as slices, against the graph as it was: every bit the same."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.onnx.graph import Graph, attribute
from picoquant.backends.onnx.ort.shuffles import unshuffle
from tests.backends.onnx.ort.test_layout import same
from tests.backends.onnx.test_activations import model

SIZE = 8
SHAPES = {"apart": [1, 2, SIZE, SIZE, SIZE], "together": [1, 2 * SIZE, SIZE, SIZE]}


class Net:
    """Nodes and constants of a network in QDQ form, with one scale for all tensors."""

    def __init__(self):
        self._random = np.random.default_rng(0)
        self.nodes = []
        self.constants = {name: np.array(shape) for name, shape in SHAPES.items()}
        self.constants.update(s=np.float32(0.1), z=np.uint8(120), low=np.uint8(3), high=np.uint8(250))

    def rounded(self, name, clip=False):
        held = f"{name}.q"
        self.nodes.append(("QuantizeLinear", [name, "s", "z"], [held]))
        if clip:
            self.nodes.append(("Clip", [held, "low", "high"], [f"{name}.c"]))
            held = f"{name}.c"
        self.nodes.append(("DequantizeLinear", [held, "s", "z"], [f"{name}.back"]))
        return f"{name}.back"

    def conv(self, name, source, inputs, out, group=1, clip=False):
        random, weight = self._random, (out, inputs // group, 1, 1)
        scales = random.uniform(0.002, 0.01, out).astype(np.float32)
        self.constants.update({
            f"{name}w": random.integers(-127, 128, weight).astype(np.int8), f"{name}s": scales,
            f"{name}z": np.zeros(out, np.int8), f"{name}b": random.integers(-99, 99, out).astype(np.int32),
            f"{name}t": scales * np.float32(0.1),
        })  # fmt: skip
        self.nodes += [
            ("DequantizeLinear", [f"{name}w", f"{name}s", f"{name}z"], [f"{name}wd"], {"axis": 0}),
            ("DequantizeLinear", [f"{name}b", f"{name}t"], [f"{name}bd"], {"axis": 0}),
            ("Conv", [source, f"{name}wd", f"{name}bd"], [name], {"group": group}),
        ]  # fmt: skip
        return self.rounded(name, clip)

    def moved(self, kind, sources, name, **attributes):
        self.nodes.append((kind, sources, [name], attributes))
        return self.rounded(name)

    def shuffled(self, name, first, second):
        both = self.moved("Concat", [first, second], f"{name}.both", axis=1)
        apart = self.moved("Reshape", [both, "apart"], f"{name}.apart")
        turned = self.moved("Transpose", [apart], f"{name}.turned", perm=[0, 2, 1, 3, 4])
        return self.moved("Reshape", [turned, "together"], name)

    def split(self, name, source):
        halves = [f"{name}.0", f"{name}.1"]
        self.nodes.append(("Split", [source], halves, {"axis": 1}))
        return [self.rounded(half) for half in halves]


def blocks(end="convolutions"):
    """Two blocks as ShuffleNet has them, and a dense and a depthwise convolution behind."""
    net = Net()
    image = net.rounded("x")
    on, computed = net.conv("a", image, 4, SIZE), net.conv("b", image, 4, SIZE)
    for number in range(2):
        on, other = net.split(f"halves{number}", net.shuffled(f"shuffle{number}", on, computed))
        computed = net.conv(f"c{number}", other, SIZE, SIZE)
    result = net.shuffled("last", on, computed)
    each = net.conv("d", result, 2 * SIZE, 2 * SIZE, group=2 * SIZE, clip=True)
    if end == "convolutions":
        parts = net.conv("e", each, 2 * SIZE, 6), net.conv("f", result, 2 * SIZE, 6)
    else:  # a sum needs the order
        parts = each, result
    net.nodes.append(("Add", list(parts), ["y"]))
    return model(net.nodes, net.constants, [1, 4, SIZE, SIZE], 13)


def test_every_channel_is_copied_once(tmp_path):
    x = np.random.default_rng(1).normal(0, 4, (1, 4, SIZE, SIZE)).astype(np.float32)
    found = []
    graph = same(blocks(), lambda graph: found.extend(unshuffle(graph)), x, tmp_path)
    assert found == ["halves0.1.back", "halves1.1.back", "last.back"]
    kinds = [node.op_type for node in graph.nodes]
    assert "Transpose" not in kinds and "Reshape" not in kinds
    # The first two and the first block's result are cut: 4 channels at once, 2 in the next block, 2 in the end.
    sizes = [graph.constants[node.input[1]].tolist() for node in graph.nodes if node.op_type == "Split"]
    assert sizes == [[2, 2, 4], [2, 2, 4], [4, 4]]
    concats = [list(node.input) for node in graph.nodes if node.op_type == "Concat"]
    assert [len(names) for names in concats] == [2, 3, 4]
    assert all(attribute(node, "axis", 0) == 1 for node in graph.nodes if node.op_type in ("Concat", "Split"))


def with_output(made):
    """The model that gives one of the tensors between, too."""
    made.graph.output.add().CopyFrom(made.graph.output[0])
    made.graph.output[-1].name = "halves0.0.back"
    return made


@pytest.mark.parametrize("made", [blocks("sum"), with_output(blocks())], ids=["summed", "given out"])
def test_where_their_order_is_seen_they_stay(made):
    graph = Graph(made)
    before = graph.finish().SerializeToString()
    assert unshuffle(graph) == [] and graph.finish().SerializeToString() == before


def test_a_graph_without_shuffles_stays():
    net = Net()
    net.moved("Concat", [net.rounded("x")] * 2, "both", axis=1)
    net.nodes.append(("Identity", ["both.back"], ["y"]))
    assert unshuffle(Graph(model(net.nodes, net.constants, [1, 4, SIZE, SIZE], 13))) == []
