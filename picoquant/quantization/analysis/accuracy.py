"""Accuracy of the float network, of the fully quantised one, and with one layer alone in INT8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import paddle

from picoquant.int8.fake_quant_run import Simulation
from picoquant.paddle_program.static.programs import InferenceModel, Inserter, write_variable
from picoquant.quantization.analysis.analyse import Analysis
from picoquant.quantization.analysis.layers import Layer
from picoquant.quantization.analysis.network import Network
from picoquant.quantization.analysis.variants import with_own_inputs
from picoquant.quantization.score import Score

Evaluate = Callable[[Any], Score]


def with_accuracy(
    analysis: Analysis,
    network: Network,
    evaluate: Evaluate,
    images: int,
    count: int,
    shown: Callable[[int], Any] = lambda done: None,
) -> Analysis:
    """The analysis with mAP and fidelity of the most expensive layers.

    Args:
        analysis: of `network`.
        network: what was analysed.
        evaluate: called with a predictor (it has `input_names` and is called with a feed), the float network's first;
            returns how well that detects.
        images: number of evaluation images.
        count: number of layers, the most expensive first.
        shown: called with the number of evaluations that are done, up to `count + 2`.
    """
    exact = evaluate(Simulation(network.model, network.executor, {}))
    shown(1)
    int8 = evaluate(network.fully_quantised([v.name for v in network.model.fetches]))
    shown(2)
    model, inputs = with_own_inputs(network)
    found: dict[int, Score] = {}
    for done, cost in enumerate(analysis.worst_first()[:count], start=3):
        found[cost.layer.index] = evaluate(_alone(network, model, inputs, cost.layer))
        shown(done)
    layers = [replace(cost, score_alone=found.get(cost.layer.index)) for cost in analysis.layers]
    accuracy = {"float": exact.mAP, "int8": int8.mAP, "fidelity": int8.fidelity, "images": images}
    return replace(analysis, layers=tuple(layers), accuracy=accuracy)


def _alone(network: Network, model: InferenceModel, inputs: Mapping[str, str], layer: Layer) -> Simulation:
    """The network with one layer in INT8: its input, for it alone, its weight and its result."""
    program = model.program.clone(for_test=True)
    block, operator = program.global_block(), layer.operator
    weight = f"{layer.name}@alone"
    Inserter(block, 0).variable(weight, block.var(operator.weight), persistable=True)
    write_variable(paddle.static.global_scope(), weight, network.rounded[layer.name])
    op = next(op for op in block.ops if operator.output in op.output_arg_names)
    op._rename_input(operator.weight, weight)
    names = {inputs[layer.name]: operator.activation, layer.output: layer.output}
    ranges = {name: network.ranges[of] for name, of in names.items() if of in network.ranges}
    changed = InferenceModel(program, model.feeds, model.fetches)
    return Simulation(changed, network.executor, ranges)


def outputs_alone(network: Network, layer: Layer, feed: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
    """The network's outputs with one layer in INT8, the whole network run."""
    model, inputs = with_own_inputs(network)
    return _alone(network, model, inputs, layer)(feed)
