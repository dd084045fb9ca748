"""Graphs that hold less compute the same numbers, also where convolutions of one geometry share what oneDNN keeps."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.int8.operators import quantizable_operators
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.traced import TracedForward
from picoquant.quantization.engine.tracing import gradients, memory
from picoquant.quantization.qat.learned_ranges.moving_average import MovingAverage
from picoquant.quantization.qat.student import open_student
from picoquant.utils.paddle_version.differences import paddle_3
from tests.networks import small_net

IMAGES = np.random.RandomState(1).rand(3, 3, 32, 32).astype("float32")


class Repeated(nn.Layer):
    """Blocks of the same geometry, each with a skip connection; two heads read the last."""

    def __init__(self, seed: int = 3) -> None:
        super().__init__()
        block = small_net._block
        self.stem = nn.Sequential(*block(3, 8, 3, 2))
        self.blocks = nn.LayerList(
            [nn.Sequential(*block(8, 8, 5, 1, groups=8), *block(8, 8, 1, 1)) for _ in range(3)]
        )
        self.scores, self.boxes = nn.Conv2D(8, 2, 1), nn.Conv2D(8, 2, 1)
        small_net.draw_weights(self, seed)

    def forward(self, image):
        found = self.stem(image)
        for block in self.blocks:
            found = found + block(found)
        return self.scores(found), self.boxes(found)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(small_net, "Small", Repeated)
    small_net.export_small(tmp_path)
    return tmp_path


def steps(folder):
    """Results and gradients of two steps, whose weights differ."""
    quant = QuantAwareSettings()
    operators = quantizable_operators(ProgramModel.load(folder), quant)
    student = open_student(folder, operators, quant, MovingAverage(), Convolutions(True))
    for found in student.ranges.values():
        found.initialise(3.0)
    forward = TracedForward(student.network, [one.stored for one in student.ranges.values()])
    found = []
    for _ in range(2):
        results = forward({"image": paddle.to_tensor(IMAGES)}, student.graph.outputs, True)
        sum((one**2).mean() for one in results).backward()
        found += [one.numpy() for one in results]
        for weight in student.network.trained():
            found.append(weight.grad.numpy())
            with paddle.no_grad():
                weight.set_value(weight - 0.01 * weight.grad)
            weight.clear_gradient(False)
    return found


def test_results_and_gradients_are_those_of_the_graph_before(folder, monkeypatch):
    changed = steps(folder)
    monkeypatch.setattr(gradients, "hold_less", lambda block, start: start)
    plain = steps(folder)
    assert len(changed) == len(plain) > 40
    for one, other in zip(changed, plain):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6 * np.abs(other).max())


def test_each_change_is_made(folder, monkeypatch):
    """Convolutions of one geometry have the same names, so that oneDNN keeps one copy of what they read."""
    seen = {}

    def noting(block, start):
        before = [op.type for op in block.ops]
        end = memory.hold_less(block, start)
        types = [op.type for op in block.ops]
        seen["results"] = [op.output("Output")[0] for op in block.ops if op.type in memory._CONVOLUTIONS]
        found = [op for op in block.ops[end:] if op.type in memory._GRADIENTS]
        seen["read"] = [(op.input("Input")[0], op.input("Filter")[0]) for op in found]
        for name in ("transfer_layout", "affine_channel", *memory._STRAIGHT_THROUGH):
            seen[name] = types.count(name) - before.count(name)
        seen["start"] = end - start
        return end

    monkeypatch.setattr(gradients, "hold_less", noting)
    steps(folder)
    assert seen["affine_channel"] == 7
    # The image's leads nowhere; those of filters are results.
    assert sum(seen[name] for name in memory._STRAIGHT_THROUGH) == -7
    if paddle_3():  # shares nothing
        assert seen["transfer_layout"] == seen["start"] == 0
        return
    # Stem; depthwise and pointwise, three times; two heads of one geometry.
    assert len(seen["results"]) == 9 and len(set(seen["results"])) == 4 and seen["start"] == 9
    # Weight gradients of the 5x5 filters are split in two, beside the operator for their images' gradient.
    assert len(seen["read"]) == 9 + 2 * 3 and len(set(seen["read"])) == 4 + 1
    assert seen["transfer_layout"] == 9 + 2 * len(seen["read"])
