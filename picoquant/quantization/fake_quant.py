"""Quantise-dequantise operators inserted into a program, for the model folder of `qat_graph.py`.

The operators are the fused ones, `fake_quantize_dequantize_*`: they compute the same numbers as PaddleSlim's pair of
a quantise and a dequantise operator. Variables are named as PaddleSlim names them: the range (absmax) of `x` is
`x@scale`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from picoquant.int8.operators import QuantizableOperator, quantised_name, scale_name
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import Inserter, ProgramModel

_ACTIVATION_QUANTISER = "fake_quantize_dequantize_moving_average_abs_max"


def insert_fake_quantisation(
    model: ProgramModel,
    settings: QuantAwareSettings,
    operators: Sequence[QuantizableOperator],
    params: Mapping[str, QuantParams],
) -> None:
    """Make the rounding of activations and weights to INT8 part of a program.

    Args:
        model: changed in place; stores the activations' ranges, see `scale_name`.
        settings: how many bits.
        operators: the operators to quantise.
        params: of the activations; those that are not symmetric are limited to their integers, and rounded on the
            symmetric grid of twice as many.
    """
    by_output = {operator.output: operator for operator in operators}
    done: dict[str, str] = {}
    index = 0
    while index < len(model.operators):
        op = model.operators[index]
        operator = by_output.get((op.results or ("",))[0])
        if operator is None or op.type != operator.op_type:
            index += 1
            continue
        inserter = Inserter(model, index)
        for name in (operator.activation, operator.weight):
            if name not in done:
                if name == operator.weight:
                    done[name] = _quantise_weight(inserter, model, operator, settings)
                else:
                    done[name] = _quantise_activation(inserter, model, name, settings, params[name])
            op.rename_input(name, done[name])
        index = inserter.index + 1


def _quantise_activation(
    inserter: Inserter, model: ProgramModel, name: str, settings: QuantAwareSettings, params: QuantParams
) -> str:
    result, scale = model.add_tensor(quantised_name(name), name), scale_name(name)
    source, bits = name, settings.activation_bits
    if not params.is_symmetric:
        source, bits = model.add_tensor(f"{quantised_name(name)}.limited", name), bits + 1
        ends = {"min": float(params.lowest), "max": float(params.highest)}
        inserter.operator("clip", {"X": name}, {"Out": source}, ends)
    inserter.operator(
        _ACTIVATION_QUANTISER,
        {"X": source, "InScale": scale},
        {"Out": result, "OutScale": scale},
        {"bit_length": bits, "moving_rate": settings.moving_rate, "is_test": True},
    )
    return result


def _quantise_weight(
    inserter: Inserter, model: ProgramModel, operator: QuantizableOperator, settings: QuantAwareSettings
) -> str:
    weight = operator.weight
    channels = 1 if operator.axis < 0 else model.shape(weight)[operator.axis]
    scale = model.store(scale_name(weight), np.zeros(channels))
    result = model.add_tensor(f"{weight}.quantized.dequantized", weight)
    attributes = {"bit_length": settings.weight_bits}
    kind = "fake_quantize_dequantize_abs_max"
    if operator.axis >= 0:
        kind = "fake_channel_wise_quantize_dequantize_abs_max"
        attributes["quant_axis"] = operator.axis
    inserter.operator(kind, {"X": weight}, {"Out": result, "OutScale": scale}, attributes)
    return result
