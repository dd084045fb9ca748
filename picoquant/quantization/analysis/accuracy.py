"""Accuracy of the float network, of the fully quantised one, and with one layer alone in INT8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from picoquant.quantization.analysis.analyse import Analysis
from picoquant.quantization.analysis.layers import Layer
from picoquant.quantization.analysis.network import Network
from picoquant.quantization.analysis.variants import with_layer_alone
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
    exact = evaluate(network.simulation({}))
    shown(1)
    int8 = evaluate(network.fully_quantised(network.model.outputs))
    shown(2)
    found: dict[int, Score] = {}
    for done, cost in enumerate(analysis.worst_first()[:count], start=3):
        found[cost.layer.index] = evaluate(with_layer_alone(network, cost.layer))
        shown(done)
    layers = [replace(cost, score_alone=found.get(cost.layer.index)) for cost in analysis.layers]
    accuracy = {"float": exact.mAP, "int8": int8.mAP, "fidelity": int8.fidelity, "images": images}
    return replace(analysis, layers=tuple(layers), accuracy=accuracy)


def outputs_alone(network: Network, layer: Layer, feed: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
    """The network's outputs with one layer in INT8, the whole network run."""
    return with_layer_alone(network, layer)(feed)
