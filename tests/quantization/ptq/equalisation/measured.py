"""What equalisation takes, measured on one batch, and the network's INT8 outputs."""

from __future__ import annotations

import numpy as np
import paddle

from picoquant.int8.fake_quant_run import Simulation
from picoquant.int8.passes.activations import target_tensors
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.static.programs import read_variable
from picoquant.paddle_program.static.session import dynamic_mode
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.ptq.detection_error import DetectionError
from picoquant.quantization.ptq.equalisation.copies import OTHERS, copy_channels
from picoquant.quantization.ptq.equalisation.equalise import equalise, needed_ranges
from picoquant.quantization.ptq.sensitivity import measure_sensitivity
from tests.networks import small_net


def ranges_of(model, executor, feed):
    def channel_ranges(names):
        values = Simulation(model, executor, {}, outputs=names)(feed)
        return {name: np.abs(value).max(axis=(0, 2, 3)) for name, value in zip(names, values)}

    return channel_ranges


def measured(model, executor, feed, more=()):
    """Groups, ranges of channels and sensitivity, as one batch shows them."""
    scope, graph = paddle.static.global_scope(), model.graph()
    groups = target_tensors(graph).groups
    maps = needed_ranges(model.program.global_block(), groups, more)
    stored = {name for op in graph.operators for _, name in op.inputs if graph.tensor(name).stored}
    values = {name: read_variable(scope, name) for name in stored}
    with dynamic_mode():
        network = FakeQuantNetwork(graph, values, (), {})
        found = measure_sensitivity(network, DetectionError(network, small_net.CONFIG), [feed])
    return groups, ranges_of(model, executor, feed)(maps), found


def equalised(model, executor, feed):
    """Equalise by what one batch shows."""
    return equalise(model, paddle.static.global_scope(), *measured(model, executor, feed))


def copied(model, executor, feed, most, kept=()):
    """Copy channels by what one batch shows; what was copied, and the ranges and the sensitivity after it."""
    found = measured(model, executor, feed, OTHERS)
    return copy_channels(model, paddle.static.global_scope(), *found, most, kept)


def full_integer(model, executor, feed, but=()):
    """The output with every tensor in INT8, min-max, but for some."""
    names = [name for name in target_tensors(model.graph()).names if name not in but]
    values = Simulation(model, executor, {}, outputs=names)(feed)
    limits = {name: QuantParams.symmetric(np.abs(value).max()) for name, value in zip(names, values)}
    return Simulation(model, executor, limits)(feed)[0]
