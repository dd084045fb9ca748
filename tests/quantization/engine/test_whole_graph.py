"""A network's own program gives what the same network gives in dygraph, bit for bit."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.errors import DataError
from picoquant.quantization.engine import whole_graph
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.whole_graph import WholeGraph, computed_of_images, run_each, whole
from picoquant.quantization.ptq import float_network, sensitivity
from picoquant.quantization.ptq.detection_error import DetectionError, random_signs
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.pipeline import preparation, run_passes
from tests.networks.small_net import batches
from tests.quantization.ptq.passes.conftest import small_state  # noqa: F401  a fixture

pytestmark = pytest.mark.skipif(
    int(paddle.__version__.split(".")[0]) >= 3, reason="on Paddle 3 networks are run operator by operator"
)


@pytest.fixture
def folded(small_state):  # noqa: F811
    return run_passes((fold_batch_norm,), small_state())


def in_dygraph(state, error, names, feed):
    """Values, gradients and weights' gradients by dygraph's own functions."""
    network = FakeQuantNetwork(state.model.graph(), state.model.values, (), {})
    random = np.random.RandomState(0)
    found = network({name: paddle.to_tensor(value) for name, value in feed.items()}, (*names, *error.names))
    for tensor in found:
        tensor.retain_grads()
    error.probe(found[len(names) :], lambda one: paddle.to_tensor(random_signs(random, one.shape))).backward()
    by_name = {name: tensor for name, tensor in zip(names, found) if tensor.grad is not None}
    return (
        {name: tensor.numpy() for name, tensor in by_name.items()},
        {name: tensor.grad.numpy() for name, tensor in by_name.items()},
        {one.name: one.grad.numpy() for one in network.trained() if one.grad is not None},
    )


def test_values_and_gradients_are_those_of_dygraph(folded):
    graph, feed = folded.model.graph(), next(batches(0))
    feed = {name: feed[name][:1] for name in graph.inputs}
    network = FakeQuantNetwork(graph, folded.model.values, (), {})
    error = DetectionError(network, folded.context.config)
    results = [name for op in graph.operators for name in op.results if graph.is_activation(name)]
    names = computed_of_images(graph, network.computable(results))
    values, gradients, weights = in_dygraph(folded, error, names, feed)
    assert len(gradients) > 5 and len(weights) > 5
    made = WholeGraph(folded.model, names, error.names, error.probe, list(weights))
    random = np.random.RandomState(0)
    signs = {name: random_signs(random, (1, *shape)) for name, shape in made.signs.items()}

    def by_name(number, found):
        assert number == 7
        rest = iter(found[len(names) :])
        return dict(zip(names, found)), *({name: next(rest) for name in some} for some in made.gradients)

    ((own, own_gradients, own_weights),) = run_each(made, [({**feed, **signs}, 7)], by_name)
    assert own_gradients.keys() == gradients.keys() and own_weights.keys() == weights.keys()
    for name in gradients:
        np.testing.assert_array_equal(own[name], values[name], name)
        np.testing.assert_array_equal(own_gradients[name], gradients[name], name)
    for name in weights:
        np.testing.assert_allclose(own_weights[name], weights[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_preparation_is_the_same_operator_by_operator(folded, monkeypatch):
    passes = preparation(folded.context.settings.quantization, calibrated=True)[1:]
    start = folded.model.copy()
    graphs = []
    made = whole_graph.WholeGraph.__init__

    def counted(self, *arguments):
        graphs.append(arguments[1])
        made(self, *arguments)

    monkeypatch.setattr(whole_graph.WholeGraph, "__init__", counted)
    first = run_passes(passes, folded)
    assert len(graphs) >= 4  # what errors cost, ranges of channels, histograms, what clipping costs
    for module in (float_network, sensitivity):
        monkeypatch.setattr(module, "whole", lambda graph: False)
    count = len(graphs)
    second = run_passes(passes, replace(folded, model=start))
    assert len(graphs) == count
    assert first.equalised == second.equalised and first.images == second.images
    assert first.ranges == second.ranges
    for name, value in first.model.values.items():
        np.testing.assert_array_equal(value, second.model.values[name], name)


def test_a_network_with_batch_norms_is_no_graph_and_stored_tensors_are_of_no_image(small_state):  # noqa: F811
    state = small_state()
    assert not whole(state.model.graph())
    graph = run_passes((fold_batch_norm,), state).model.graph()
    assert whole(graph)
    stored = next(name for op in graph.operators for _, name in op.inputs if graph.tensor(name).stored)
    assert computed_of_images(graph, ("image", stored)) == ("image",)


def test_as_many_at_once_as_processors_and_memory_allow(folded, monkeypatch):
    graph = folded.model.graph()
    monkeypatch.setattr(whole_graph, "available_cpus", lambda: 64)
    sizes = {8: 4, 7: 3, 2: 1, 1: 1}
    for fitting, expected in sizes.items():
        monkeypatch.setattr(whole_graph, "images_at_once", lambda graph, fitting=fitting: fitting)
        assert WholeGraph(folded.model, ("image",)).at_once == expected
    tensors = {**graph.tensors, "image": replace(graph.tensor("image"), shape=(3, 3, 32, 32))}
    monkeypatch.setattr(whole_graph, "images_at_once", lambda graph: 12)
    monkeypatch.setattr(type(folded.model), "graph", lambda self: replace(graph, tensors=tensors))
    assert WholeGraph(folded.model, ("image",)).at_once == 2
    monkeypatch.setattr(whole_graph, "available_cpus", lambda: 1)
    assert WholeGraph(folded.model, ("image",)).at_once == 1


class Doubled:
    """In place of a graph: gives twice the number that it is fed, the first after the others."""

    at_once = 3

    def runner(self):
        def run(feed):
            if feed["number"] == 0:
                time.sleep(0.2)
            return [2 * feed["number"]]

        return run


def test_results_keep_their_order_and_an_error_comes_at_its_place():
    threads = set()

    def work(number, found):
        threads.add(threading.get_ident())
        if number == 5:
            raise DataError("the fifth")
        return number, found[0]

    found = run_each(Doubled(), (({"number": number}, number) for number in range(100)), work)
    assert [next(found) for _ in range(5)] == [(number, 2 * number) for number in range(5)]
    with pytest.raises(DataError, match="the fifth"):
        next(found)
    assert threading.get_ident() not in threads
