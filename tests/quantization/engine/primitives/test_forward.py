"""A rounded network on oneDNN's primitives computes what it computes operator by operator: results and gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from picoquant.int8.operators import quantizable_operators
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.engine.at_once import AtOnce, Part
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.primitives.forward import PrimitiveForward
from picoquant.quantization.qat.learned_ranges.fixed import Fixed, FixedRange, FixedRangeWithZeroPoint
from picoquant.quantization.qat.student import open_student
from picoquant.training.fast import fast_convolutions_available
from picoquant.training.onednn.graph import UnsupportedError
from picoquant.training.onednn.library import AVX2, library
from picoquant.training.onednn.nodes import Function, Round
from picoquant.utils.paddle_version.differences import paddle_3
from tests.networks.small_net import draw_weights, export_small, loaded_and_folded

pytestmark = pytest.mark.skipif(
    not fast_convolutions_available() or library() is None or not library().has(AVX2),
    reason="no oneDNN of version 3 with AVX2 here",
)
SIZE = 16
IMAGES = np.random.RandomState(0).randn(4, 3, SIZE, SIZE).astype("float32")
QUANT = QuantAwareSettings()


def conv(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Layer:
    return nn.Conv2D(inputs, outputs, size, stride, size // 2, groups=groups)


class Everything(nn.Layer):
    """One of each operator that a detector has behind calibration, a hard-swish written out among them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = conv(3, 12, 3, 2), conv(12, 12, 5, groups=12)
        self.norm = nn.BatchNorm2D(12)
        self.shift, self.point = conv(12, 12, groups=12), conv(12, 24)
        self.down, self.up, self.small = conv(24, 6), conv(6, 24), conv(24, 20, 3, 2)
        self.join, self.classes, self.align = conv(44, 18), conv(18, 3), conv(18, 1, 5)

    def forward(self, image):
        x = F.relu6(self.stem(image))
        x = self.norm(self.deep(x))
        x = x * F.relu6(self.shift(x))
        x = F.hardswish(self.point(x))
        x = x * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        large = F.interpolate(F.relu6(self.small(x)), scale_factor=2.0, mode="nearest")
        x = F.relu(self.join(paddle.concat([large, x], axis=1)))
        rows = [
            one.reshape([0, one.shape[1], 64]).transpose([0, 2, 1])
            for one in (self.classes(x), self.align(x))
        ]
        return rows[0] * 1.0, rows[1], F.sigmoid(x)


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("everything")

    def make() -> nn.Layer:
        network = Everything()
        draw_weights(network, 1)
        return network

    loaded_and_folded(make, folder, (3, SIZE, SIZE))
    return folder


def student_of(folder, zero_points=None, weights="channel_wise_abs_max", held=True):
    """A student whose ranges, all of them others, cut off some values of most tensors."""
    quant = QuantAwareSettings(weight_quantize_type=weights)
    operators = quantizable_operators(ProgramModel.load(folder), quant)
    strategy = Fixed(zero_points)
    student = open_student(folder, operators, quant, strategy, Convolutions(True), all_held=held)
    for place, (name, one) in enumerate(student.ranges.items()):
        one.initialise(2.7 if name == "image" else 3.3 + 0.013 * place)
    return student


def zero_points_of(folder):
    """For every second tensor one of its own."""
    names = student_of(folder).ranges
    return {name: -120 + 7 * place for place, name in enumerate(names) if place % 2}


def passes(student, forward, images=IMAGES):
    """Results, and gradients of what is trained, by name."""
    results = forward({"image": paddle.to_tensor(images)}, student.graph.outputs, True)
    weights = [paddle.to_tensor(np.cos(np.arange(one.size, dtype="float32"))) for one in results]
    paddle.add_n([(one.flatten() * weight).sum() for one, weight in zip(results, weights)]).backward()
    found = {one.name: one.grad.numpy() for one in student.network.trained() if one.grad is not None}
    for one in student.network.trained():
        one.clear_gradient(False)
    return [one.numpy() for one in results], found


def same(found, expected):
    for one, other in zip(found[0], expected[0]):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())
    assert found[1].keys() == expected[1].keys() and len(found[1]) >= 19
    for name, gradient in expected[1].items():
        np.testing.assert_allclose(found[1][name], gradient, atol=5e-4 * np.abs(gradient).max(), err_msg=name)


@pytest.mark.parametrize("weights", ["channel_wise_abs_max", "abs_max"])
@pytest.mark.parametrize("asymmetric", [False, True], ids=["symmetric", "zero points"])
def test_results_and_gradients_are_those_of_single_operators(everything, asymmetric, weights):
    zero_points = zero_points_of(everything) if asymmetric else None
    student = student_of(everything, zero_points, weights)
    kinds = {type(one) for one in student.ranges.values()}
    assert kinds == ({FixedRange, FixedRangeWithZeroPoint} if asymmetric else {FixedRange})
    forward = PrimitiveForward(student.network, student.ranges, student.graph.outputs)
    same(passes(student, forward), passes(student, student.network))
    same(passes(student, forward, IMAGES[:1]), passes(student, student.network, IMAGES[:1]))


def test_a_relu_is_part_of_the_rounding_behind_it(everything):
    student = student_of(everything)
    forward = PrimitiveForward(student.network, student.ranges, student.graph.outputs)
    nodes = forward.graph({}, student.graph.outputs, False)._graph.nodes
    rounds = [node for node in nodes if isinstance(node, Round)]
    functions = [node.algorithm.name for node in nodes if isinstance(node, Function)]
    assert sorted(functions) == ["HARD_SIGMOID", "HARD_SWISH", "LOGISTIC_DST"]
    assert sum(node.low == 0 for node in rounds) == 5  # relu6 three times, relu twice


def test_changed_weights_and_ranges_are_read_at_each_call(everything):
    student = student_of(everything)
    forward = PrimitiveForward(student.network, student.ranges, student.graph.outputs)
    first, state = passes(student, forward), student.state()
    student.restore({name: value * np.float32(1.1) for name, value in state.items()})
    same(passes(student, forward), passes(student, student.network))
    student.restore(state)
    for one, other in zip(passes(student, forward)[0], first[0]):
        np.testing.assert_array_equal(one, other)


def test_a_value_that_is_cut_off_has_no_gradient(everything):
    """With a small range of what follows the stem nothing reaches its weights, and much else is as before."""
    student = student_of(everything)
    stem = next(op for op in student.graph.operators if op.op_type == "relu6")
    student.ranges[stem.name].initialise(1e-6)
    forward = PrimitiveForward(student.network, student.ranges, student.graph.outputs)
    found, expected = passes(student, forward), passes(student, student.network)
    assert np.abs(expected[1]["conv2d_1.w_0"]).max() > 0
    same(found, expected)
    before = dict(student.network.stored)
    assert not found[1][next(name for name in before if name.startswith("conv2d_0.w"))].any()


@pytest.mark.skipif(paddle_3(), reason="on Paddle 3 parts run one after the other")
def test_parts_at_once_are_the_batch(everything):
    student = student_of(everything)
    names = student.graph.outputs

    def loss(expected, found):
        return sum((one**2).mean() for one in found.values()) + expected["offset"].mean()

    def parts(size):
        offset = np.ones([len(IMAGES), 1], "float32")
        return [
            Part({"image": IMAGES[start : start + size]}, {"offset": offset[start : start + size]}, size / 4)
            for start in range(0, 4, size)
        ]

    found = []
    for size in (4, 2, 1):
        run = AtOnce(PrimitiveForward(student.network, student.ranges, names), names, loss, 99)
        for _ in range(2):
            total = run(parts(size), False)
            gradients = {one.name: one.grad.numpy() for one in student.network.trained()}
            for one in student.network.trained():
                one.clear_gradient(False)
        found.append(([np.float32(total)], gradients))
    same(found[1], found[0])
    same(found[2], found[0])


def test_what_is_frozen_has_no_gradient(everything):
    student = student_of(everything)
    first = student.network.stored["conv2d_0.w_0"]
    first.stop_gradient = True
    forward = PrimitiveForward(student.network, student.ranges, student.graph.outputs)
    found, expected = passes(student, forward), passes(student, student.network)
    assert "conv2d_0.w_0" not in found[1]
    same(found, expected)


def test_what_is_not_known_is_named(everything, tmp_path):
    student = student_of(everything, held=False)
    with pytest.raises(UnsupportedError, match="which is rounded where it is read"):
        PrimitiveForward(student.network, student.ranges, student.graph.outputs)
    student = student_of(everything)
    with pytest.raises(UnsupportedError, match="an output twice"):
        PrimitiveForward(student.network, student.ranges, student.graph.outputs[:1] * 2)
    export_small(tmp_path)  # its batch-norms are not folded
    student = student_of(tmp_path)
    with pytest.raises(UnsupportedError, match="a batch-norm, which training changes"):
        PrimitiveForward(student.network, student.ranges, student.graph.outputs)
