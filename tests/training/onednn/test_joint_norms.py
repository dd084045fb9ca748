"""Batch-norms over the images of all processes: what one process computes of what the others tell.

With real ones: tests/training/joint_batch_norm.
"""

from __future__ import annotations

import logging

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant import build_detector
from picoquant.errors import ConfigError
from picoquant.training.fast import FastLayers, fast_convolutions_available
from picoquant.training.graphs.tracing import any_size, program_of
from picoquant.training.onednn.engine import engine_of
from picoquant.training.onednn.joint_norms import told_together
from picoquant.training.onednn.library import AVX2, Kind, library
from picoquant.training.onednn.nodes import BatchNorm, reads
from tests.training.onednn.pieces import PIECES, Depthwise, made, on_engine, results
from tests.training.onednn.test_graph import graph_of

pytestmark = pytest.mark.skipif(
    not fast_convolutions_available() or library() is None or not library().has(AVX2),
    reason="no oneDNN of version 3 with AVX2 here",
)


class Processes:
    """Two processes with the same images; `sizes` of what this one has told."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def rows(self, values):
        self.sizes.append(len(values))
        return np.stack([values, values])


def image(shape) -> np.ndarray:
    return np.random.RandomState(sum(shape)).randn(*shape).astype("float32")


@pytest.mark.parametrize("wide", [16, 24])
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.__name__)
def test_with_another_process_that_has_the_same_images_it_is_as_without(piece, wide):
    """Of every node, and of numbers of channels that do and do not fill blocks, of several sizes in turns."""
    layer, other = made(piece, wide), made(piece, wide)
    joint, alone = on_engine(layer, group=Processes()), on_engine(other)
    for shape in ((3, 16, 12, 10), (2, 16, 8, 14), (3, 16, 12, 10)):
        found = results(joint, layer, image(shape))
        for name, expected in results(alone, other, image(shape)).items():
            scale = np.abs(expected).max() + 1e-6
            np.testing.assert_allclose(found[name], expected, atol=2e-4 * scale, err_msg=f"{name} {shape}")


def test_channels_that_fill_blocks_are_not_told():
    """They are others in a process with other instructions."""
    layer, group = made(Depthwise, 24), Processes()
    results(on_engine(layer, group=group), layer, image((2, 16, 8, 8)))
    assert group.sizes == 4 * [2 * 24 + 1]


def test_fixed_statistics_are_not_told():
    layer, group = made(Depthwise), Processes()
    layer.norm.eval()
    results(on_engine(layer, group=group), layer, image((2, 16, 8, 8)))
    assert group.sizes == 2 * [2 * 24 + 1]


class Branches(nn.Layer):
    """Two convolutions of one map, one of them before another, each with its batch-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.LayerList(nn.Conv2D(16, 16, 1, bias_attr=False) for _ in range(3))
        self.norms = nn.LayerList(nn.BatchNorm2D(16) for _ in range(3))

    def forward(self, x):
        first, second = (self.norms[place](self.convolutions[place](x)) for place in (0, 1))
        return second + self.norms[2](self.convolutions[2](first))


def test_branches_are_told_of_together():
    network, group = Branches(), Processes()
    found = told_together(graph_of(network))
    messages = [node.message for node in found.nodes if isinstance(node, BatchNorm)]
    assert messages == [0, 0, 1]
    results(on_engine(network, group=group), network, image((2, 16, 8, 8)))
    assert group.sizes == [66, 33, 33, 66]


def test_of_a_detector_all_that_do_not_wait_for_each_other_are_told_of_together(root):
    model = build_detector(root / "configs/picodet_s_416_coco_npu.yml", 3)
    model.train()
    maps = paddle.zeros([1, 3, 64, 64])
    program, _ = program_of(model.predicted, (maps,), [any_size(maps)])
    whole = engine_of(program, model, Kind.F32).__closure__
    (part,) = (cell.cell_contents for cell in whole if hasattr(cell.cell_contents, "graph"))
    before, after = part.graph, told_together(part.graph)
    known = set(after.inputs)
    for node in after.nodes:
        assert known.issuperset(reads(node))
        known.add(node.out)
    assert {node.out for node in before.nodes} == known - set(after.inputs)
    norms = [node for node in after.nodes if isinstance(node, BatchNorm)]
    messages = [node.message for node in norms]
    assert messages == sorted(messages) and (len(messages), len(set(messages))) == (106, 64)
    places = {node.out: place for place, node in enumerate(after.nodes)}
    for message in set(messages):
        side_by_side = [places[node.out] for node in norms if node.message == message]
        assert side_by_side == list(range(side_by_side[0], side_by_side[0] + len(side_by_side)))


def test_a_single_value_a_channel_is_an_error():
    layer = made(Depthwise)
    with pytest.raises(ConfigError, match="norm_type: sync_bn: a batch norm has a single value a channel"):
        on_engine(layer, group=Processes())(paddle.to_tensor(image((1, 16, 1, 1))))


class Lost(Processes):
    """Is there for so many messages."""

    def __init__(self, messages: int) -> None:
        super().__init__()
        self.left = messages

    def rows(self, values):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("connection closed by peer")
        return super().rows(values)


@pytest.mark.parametrize("messages", [0, 1, 2, 3])
def test_what_a_message_raises_ends_the_step(messages):
    """Two are forward, two backward."""
    layer = made(Depthwise)
    run = on_engine(layer, group=Lost(messages))
    with pytest.raises(Exception, match="connection closed by peer"):  # Paddle wraps it, backward
        run(paddle.to_tensor(image((2, 16, 8, 8)))).sum().backward()


class Without(Processes):
    """The other process has no engine."""

    def rows(self, values):
        found = super().rows(values)
        return found if len(values) > 1 else np.array([values, [1.0]])


def test_where_another_process_has_no_engine_none_has(root, caplog):
    """They tell each other of one batch-norm after another then."""
    caplog.set_level(logging.DEBUG, "picoquant")
    group = Without()
    model = build_detector(root / "configs/picodet_xs_320_coco_lcnet.yml", 3)
    model.train()
    with FastLayers(model, group=group).on():
        model.predicted(paddle.rand([2, 3, 64, 64]))
    assert [text.split(" is computed by Paddle: it has ")[1] for text in caplog.messages] == 3 * [
        "no engine in another process"
    ]
    assert group.sizes[5:] and group.sizes.count(1) == 5  # the whole, its maps alone, and three parts
    assert len(group.sizes) == 5 + 82
