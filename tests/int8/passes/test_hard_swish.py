"""Written-out hard-swishes found again, and what runtimes make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.backends.base import Exported, Machine, load_backend
from picoquant.backends.source import Source
from picoquant.int8.passes.hard_swish import find_gates, join_hard_swishes
from tests.networks.gated import CHANNELS, FACTORS, SIZE, write_gated
from tests.networks.quick_int8 import quick_int8


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gated")
    return Source(quick_int8(write_gated(folder / "fp32"), folder / "int8"))


def test_it_is_one_hard_swish_with_factors_and_the_integers_stay(gated):
    network = gated.network
    (gate,) = find_gates(network.graph, network.values, network.layers).values()
    np.testing.assert_allclose(gate.factors, FACTORS, rtol=2e-3)  # as the rounded bias has them
    joined, behind = join_hard_swishes(network)
    np.testing.assert_allclose(behind[gate.result], 6 / gate.factors, rtol=1e-6)
    kinds = [op.op_type for op in joined.graph.operators]
    assert kinds.count("hard_swish") == 1 and "relu6" not in kinds and kinds.count("elementwise_mul") == 1
    assert len(joined.operators) == len(network.operators) - 1
    first, before = joined.operators[0], network.operators[0]
    np.testing.assert_array_equal(first.integers, before.integers)
    np.testing.assert_array_equal(first.bias_integers, before.bias_integers)
    np.testing.assert_allclose(first.scales, before.scales * gate.factors, rtol=1e-6)
    (swish,) = (op for op in joined.graph.operators if op.op_type == "hard_swish")
    assert joined.tensors[swish.input("X0")].params is None and joined.tensors[gate.result].params is not None
    assert "relu6" in [op.op_type for op in network.graph.operators]


def test_another_offset_or_another_reader_is_none(gated):
    network = gated.network
    (gate,) = find_gates(network.graph, network.values, network.layers).values()
    bias = network.layers[gate.absorbed[0]].bias
    values = {**network.values, bias: np.full(CHANNELS, 2.9, np.float32)}
    assert find_gates(network.graph, values, network.layers) == {}
    graph = replace(
        network.graph, outputs=(*network.graph.outputs, network.layers[network.operators[0].output].output)
    )
    assert find_gates(graph, network.values, network.layers) == {}


@pytest.mark.parametrize("name", ["ncnn", "openvino"])
def test_runtimes_compute_it_inside_the_convolution(gated, name, tmp_path):
    backend, reference = load_backend(name), load_backend("paddle")
    pytest.importorskip(name)
    made = backend.export.export(gated, tmp_path / "model", backend.toolchain.find(Machine()))
    feed = {"image": np.random.default_rng(1).random((2, 3, SIZE, SIZE), np.float32)}
    model = Exported((gated.folder.model, gated.folder.params), source=gated)
    with backend.runtime.open_files(made, None, Machine(1)) as predict:
        found = predict(feed)
    with reference.runtime.open_files(model, None, Machine(1)) as predict:
        expected = predict(feed)
    for one, two in zip(expected, found):
        assert one.shape == two.shape
        noise = np.square(one.astype(np.float64) - two).sum()
        assert 10 * np.log10(np.square(one.astype(np.float64)).sum() / noise) > 30
    if name == "ncnn":
        text = made.files[0].read_text()
        assert text.count("ConvolutionDepthWise ") == 1 and text.count("Quantize ") == 1
        assert " 9=6 -23310=2,1.66666667e-01,5.00000000e-01" in text and "Clip" not in text
