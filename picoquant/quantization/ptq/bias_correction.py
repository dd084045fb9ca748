"""Bias correction: rounding a weight shifts the mean of a layer's result; the bias compensates for that.

Nagel et al. 2019 (https://arxiv.org/abs/1906.04721), section 4.2, empirical: the shift of an output channel is
its weights' rounding error times the means of the input's channels, measured on the calibration images.
Padding is not taken into account.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.passes.weights import rounded_weight
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.layers import CONVOLUTIONS, fused_layer


def correct_biases(
    model: ProgramModel,
    operators: Iterable[QuantizableOperator],
    means: Mapping[str, np.ndarray],
    bits: int = 8,
    exact: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Correct the bias behind each convolution whose weight is rounded.

    Args:
        model: the float network, batch-norm folded; its biases are changed.
        operators: whose weights are rounded.
        means: of each operator's input, `[in channels]`, by name.
        bits: of a weight.
        exact: the float network's weights by name, where `model` holds others.

    Returns: the biases that were corrected, `[out channels]` float32, by name, as they were before.
    """
    graph, before = model.graph(), {}
    for operator in operators:
        if operator.op_type not in CONVOLUTIONS or operator.activation not in means:
            continue
        layer = fused_layer(graph, graph.producer(operator.output))
        if layer.bias is None or len(graph.users(layer.bias)) > 1:
            continue
        bias = layer.bias
        weight = model.values[operator.weight]
        error = rounded_weight(weight, operator.axis, bits) - (exact or {}).get(operator.weight, weight)
        error = error.sum(axis=(2, 3))
        groups = layer.conv.attributes["groups"]
        inputs = means[operator.activation].reshape(groups, error.shape[1])
        shift = (error * np.repeat(inputs, len(error) // groups, axis=0)).sum(1)
        before[bias] = model.values[bias]
        model.write(bias, (before[bias] - shift).astype(np.float32))
    return before
