"""Quantise-dequantise operators put straight into a program.

PaddleSlim's passes go over a graph of student, teacher, backward and optimiser operators, several times for
each operator they add. Here the student alone is changed, in one pass over its program. The operators are
the fused ones, `fake_quantize_dequantize_*`: they compute the same numbers as PaddleSlim's pair of a quantise
and a dequantise operator, and have a gradient of their own (straight through), so that backward can be added
afterwards. Variables are named as PaddleSlim names them: the range of `x` is `x@scale`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from picoquant.int8.operators import QuantizedOperator, quantised_name, quantizable_operators, scale_name
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.static import Inserter, output_names, write_variable
from picoquant.quantization.qat.learned_ranges.lsq import learned_range
from picoquant.quantization.qat.learned_ranges.pact import insert_pact_average

# PaddleSlim's start of a moving average: range, and the weight and sum of what went into it.
_START = {"scale": 0.001, "state": 1.0, "accum": 1.0}
ACTIVATION_QUANTISER = "fake_quantize_dequantize_moving_average_abs_max"


def insert_fake_quantisation(
    program: Any,
    scope: Any,
    settings: QuantAwareSettings,
    training: bool,
    lsq: bool = False,
    operators: tuple[QuantizedOperator, ...] | None = None,
) -> tuple[QuantizedOperator, ...]:
    """Quantise a student: its activations' and weights' rounding to INT8 becomes part of the program.

    Args:
        program: changed in place.
        scope: gets the ranges; those that are there are kept.
        settings: which operators, how many bits, and whether PACT clips the activations first.
        training: whether the ranges follow the data or are learnt (else they are only used, and PACT is left
            out: the range that was found behind it clips just so).
        lsq: whether the activations' ranges are parameters of the program, for `range_gradients`.
        operators: which, in place of all that the settings name.

    Returns: the operators that were quantised.
    """
    operators = quantizable_operators(program, settings) if operators is None else operators
    block = program.global_block()
    by_output = {operator.output: operator for operator in operators}
    done: dict[str, Any] = {}
    index = 0
    while index < len(block.ops):
        op = block.ops[index]
        operator = by_output.get((output_names(op) or [""])[0])
        if operator is None or op.type != operator.kind:
            index += 1
            continue
        inserter = Inserter(block, index)
        for name in (operator.activation, operator.weight):
            if name not in done:
                if name == operator.weight:
                    done[name] = _quantise_weight(inserter, block, scope, operator, settings)
                else:
                    ranges = _kind_of_ranges(settings, training, lsq)
                    done[name] = _quantise_activation(inserter, block, scope, name, settings, ranges)
            op._rename_input(name, done[name].name)
        index = inserter.index + 1
    program._sync_with_cpp()
    return operators


def _kind_of_ranges(settings: QuantAwareSettings, training: bool, lsq: bool) -> str:
    if not training:
        return "fixed"
    if lsq:
        return "lsq"
    return "pact" if settings.use_pact else "average"


def _quantise_activation(
    inserter: Inserter, block: Any, scope: Any, name: str, settings: QuantAwareSettings, ranges: str
) -> Any:
    source = block.var(name)
    average = (
        {"scale": learned_range(source)} if ranges == "lsq" else _moving_average(inserter, scope, source)
    )
    result = inserter.variable(quantised_name(name), source)
    inputs = {"X": source, "InScale": average["scale"]}
    outputs = {"Out": result, "OutScale": average["scale"]}
    if ranges == "pact":
        insert_pact_average(inserter, scope, source, average, settings.moving_rate)
    if ranges == "average":
        inputs.update(InState=average["state"], InAccum=average["accum"])
        outputs.update(OutState=average["state"], OutAccum=average["accum"])
    if ranges == "lsq":  # a parameter is not written by the operator
        outputs["OutScale"] = inserter.variable(f"{name}@unchanged", source, shape=[1])
    inserter.operator(
        ACTIVATION_QUANTISER,
        inputs,
        outputs,
        {
            "bit_length": settings.activation_bits,
            "moving_rate": settings.moving_rate,
            "is_test": ranges != "average",
        },
    )
    return result


def _moving_average(inserter: Inserter, scope: Any, source: Any) -> dict[str, Any]:
    """The variables of an activation's range, with their start values where they have none."""
    average = {}
    for part, start in _START.items():
        name = f"{source.name}@{part}"
        average[part] = inserter.variable(name, source, persistable=True, shape=[1])
        if scope.find_var(name) is None:
            write_variable(scope, name, np.array([start], np.float32))
    return average


def _quantise_weight(
    inserter: Inserter,
    block: Any,
    scope: Any,
    operator: QuantizedOperator,
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


def is_trainable(variable: Any) -> bool:
    """Whether a variable of the student is a weight that training changes."""
    return isinstance(variable, paddle.framework.Parameter) and variable.trainable
