"""Quantise-dequantise operators inserted into a static program, for the model folder of `qat_graph.py`.

The operators are the fused ones, `fake_quantize_dequantize_*`: they compute the same numbers as PaddleSlim's pair of
a quantise and a dequantise operator. Variables are named as PaddleSlim names them: the range (absmax) of `x` is
`x@scale`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from picoquant.int8.operators import QuantizableOperator, quantised_name, scale_name
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.static.programs import Inserter, output_names, write_variable

_ACTIVATION_QUANTISER = "fake_quantize_dequantize_moving_average_abs_max"


def insert_fake_quantisation(
    program: Any,
    scope: Any,
    settings: QuantAwareSettings,
    operators: Sequence[QuantizableOperator],
    params: Mapping[str, QuantParams],
) -> None:
    """Make the rounding of activations and weights to INT8 part of a program.

    Args:
        program: changed in place.
        scope: holds the activations' ranges, see `scale_name`.
        settings: how many bits.
        operators: the operators to quantise.
        params: of the activations; those that are not symmetric are limited to their integers, and rounded on the
            symmetric grid of twice as many.
    """
    block = program.global_block()
    by_output = {operator.output: operator for operator in operators}
    done: dict[str, Any] = {}
    index = 0
    while index < len(block.ops):
        op = block.ops[index]
        operator = by_output.get((output_names(op) or [""])[0])
        if operator is None or op.type != operator.op_type:
            index += 1
            continue
        inserter = Inserter(block, index)
        for name in (operator.activation, operator.weight):
            if name not in done:
                if name == operator.weight:
                    done[name] = _quantise_weight(inserter, block, scope, operator, settings)
                else:
                    done[name] = _quantise_activation(inserter, block, name, settings, params[name])
            op._rename_input(name, done[name].name)
        index = inserter.index + 1
    program._sync_with_cpp()


def _quantise_activation(
    inserter: Inserter, block: Any, name: str, settings: QuantAwareSettings, params: QuantParams
) -> Any:
    source, bits = block.var(name), settings.activation_bits
    scale = inserter.variable(scale_name(name), source, persistable=True, shape=[1])
    result = inserter.variable(quantised_name(name), source)
    if not params.is_symmetric:
        limited = inserter.variable(f"{quantised_name(name)}.limited", source)
        ends = {"min": float(params.lowest), "max": float(params.highest)}
        inserter.operator("clip", {"X": source}, {"Out": limited}, ends)
        source, bits = limited, bits + 1
    inserter.operator(
        _ACTIVATION_QUANTISER,
        {"X": source, "InScale": scale},
        {"Out": result, "OutScale": scale},
        {"bit_length": bits, "moving_rate": settings.moving_rate, "is_test": True},
    )
    return result


def _quantise_weight(
    inserter: Inserter,
    block: Any,
    scope: Any,
    operator: QuantizableOperator,
    settings: QuantAwareSettings,
) -> Any:
    source = block.var(operator.weight)
    channels = 1 if operator.axis < 0 else source.shape[operator.axis]
    scale = inserter.variable(scale_name(operator.weight), source, persistable=True, shape=[channels])
    write_variable(scope, scale.name, np.zeros(channels, np.float32))
    result = inserter.variable(f"{operator.weight}.quantized.dequantized", source)
    attrs = {"bit_length": settings.weight_bits}
    kind = "fake_quantize_dequantize_abs_max"
    if operator.axis >= 0:
        kind = "fake_channel_wise_quantize_dequantize_abs_max"
        attrs["quant_axis"] = operator.axis
    inserter.operator(kind, {"X": source}, {"Out": result, "OutScale": scale}, attrs)
    return result
