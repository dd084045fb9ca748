"""What equalisation takes, measured on one batch, and the network's INT8 outputs."""

from __future__ import annotations

import numpy as np

from picoquant.int8.passes.activations import target_tensors
from picoquant.int8.quant_params import QuantParams
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.simulation import Simulation
from picoquant.quantization.ptq.detection_error import DetectionError
from picoquant.quantization.ptq.equalisation.copies import OTHERS, copy_channels
from picoquant.quantization.ptq.equalisation.equalise import equalise, needed_ranges
from picoquant.quantization.ptq.sensitivity import measure_sensitivity
from tests.networks import small_net


def ranges_of(model, feed):
    def channel_ranges(names):
        values = Simulation(model, {}, outputs=names)(feed)
        return {name: np.abs(value).max(axis=(0, 2, 3)) for name, value in zip(names, values)}

    return channel_ranges


def measured(model, feed, more=()):
    """Groups, ranges of channels and sensitivity, as one batch shows them."""
    graph = model.graph()
    groups = target_tensors(graph).groups
    maps = needed_ranges(model, groups, more)
    stored = {name for op in graph.operators for _, name in op.inputs if graph.tensor(name).stored}
    values = {name: model.values[name] for name in stored}
    network = FakeQuantNetwork(graph, values, (), {})
    found = measure_sensitivity(network, DetectionError(network, small_net.CONFIG), [feed])
    return groups, ranges_of(model, feed)(maps), found


def equalised(model, feed):
    """Equalise by what one batch shows."""
    return equalise(model, *measured(model, feed))


def copied(model, feed, most, kept=()):
    """Copy channels by what one batch shows; what was copied, and the ranges and the sensitivity after it."""
    found = measured(model, feed, OTHERS)
    return copy_channels(model, *found, most, kept)


def full_integer(model, feed, but=()):
    """The output with every tensor in INT8, min-max, but for some."""
    names = [name for name in target_tensors(model.graph()).names if name not in but]
    values = Simulation(model, {}, outputs=names)(feed)
    limits = {name: QuantParams.symmetric(np.abs(value).max()) for name, value in zip(names, values)}
    return Simulation(model, limits)(feed)[0]
