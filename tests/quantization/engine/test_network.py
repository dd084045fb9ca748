"""A whole network in the engine beside Paddle's inference engine, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import WeightsError
from picoquant.int8.operators import QuantizableOperator
from picoquant.paddle_program.graph import Graph, read_graph
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.tracing.kernels import fake_quantise
from tests.networks.small_net import CONFIG, batches

FEED = {"image": next(batches(7))["image"]}


@pytest.fixture(scope="module")
def small(small_model):
    program = read_program(small_model / "model.pdmodel")
    return read_graph(program), read_params(program, small_model / "model.pdiparams")


def run(network, names):
    with paddle.no_grad():
        found = network({"image": paddle.to_tensor(FEED["image"])}, names)
    return [one.numpy() for one in found]


@pytest.mark.parametrize("onednn", [True, False])
def test_outputs_are_paddles(small, small_model, onednn):
    graph, values = small
    network = FakeQuantNetwork(graph, values, (), {}, convolutions=Convolutions(onednn))
    expected = open_predictor(ModelFolder.open(small_model, config=CONFIG))(FEED)
    for found, value in zip(run(network, graph.outputs), expected):
        np.testing.assert_allclose(found, value, atol=1e-5 * np.abs(value).max())


def test_any_tensor_can_be_asked_for_in_any_order(small):
    graph, values = small
    network = FakeQuantNetwork(graph, values, (), {})
    names = [op.name for op in graph.operators][::-1] + ["image"]
    at_once = run(network, names)
    np.testing.assert_array_equal(at_once[-1], FEED["image"])
    feed = {"image": paddle.to_tensor(FEED["image"])}
    with paddle.no_grad():
        one_by_one = [one.numpy() for one in network.each(feed, names)]
    for first, second in zip(at_once, one_by_one):
        np.testing.assert_array_equal(first, second)
    (alone,) = run(network, names[:1])
    np.testing.assert_allclose(alone, at_once[0], rtol=1e-4, atol=1e-5)


def test_what_is_given_is_not_computed(small):
    graph, values = small
    network = FakeQuantNetwork(graph, values, (), {}, convolutions=Convolutions(False))
    middle = next(op for op in graph.operators if op.op_type == "relu6").name
    names = [middle, *graph.outputs]
    whole = run(network, names)
    with paddle.no_grad():
        behind = [one.numpy() for one in network({middle: paddle.to_tensor(whole[0])}, names)]
        moved = [one.numpy() for one in network({middle: paddle.to_tensor(0 * whole[0])}, names)]
    for one, other in zip(behind, whole):
        np.testing.assert_array_equal(one, other)
    assert not moved[0].any() and np.abs(moved[2] - whole[2]).max() > 0.01


def test_a_quantised_operator_reads_rounded_values(small):
    """Of a convolution with two bits, whose results follow from its rounded image and weight alone."""
    graph, values = small
    conv = graph.operators[0]
    weight = conv.input("Filter0")
    operator = QuantizableOperator(conv.op_type, conv.name, "image", weight, 0)
    absmax = paddle.full([1], 0.5)
    quantisers = {"image": lambda value, following: fake_quantise(value, absmax, 2)}
    network = FakeQuantNetwork(graph, values, (operator,), quantisers, weight_bits=2)
    image = np.clip(np.rint(FEED["image"] / 0.5), -1, 1) * np.float32(0.5)
    scales = np.abs(values[weight]).max((1, 2, 3), keepdims=True)
    rounded = (np.rint(values[weight] / scales) * scales).astype(np.float32)
    a = conv.attributes
    expected = paddle.nn.functional.conv2d(
        paddle.to_tensor(image), paddle.to_tensor(rounded), None, list(a["strides"]), list(a["paddings"])
    )
    (found,) = run(network, [conv.name])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_an_unknown_operator_is_named_only_where_it_is_needed(small):
    graph, values = small
    last = graph.operators[-1]
    strange = replace(last, op_type="multiclass_nms3")
    changed = Graph((*graph.operators[:-1], strange), graph.tensors, graph.inputs, graph.outputs)
    network = FakeQuantNetwork(changed, values, (), {})
    first = graph.operators[0].name
    assert len(run(network, [first])) == 1
    assert network.computable([first, last.name, "image"]) == (first, "image")
    with pytest.raises(WeightsError, match=rf"operator multiclass_nms3 \({last.name}\) is not among"):
        run(network, [last.name])
