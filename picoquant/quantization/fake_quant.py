"""Quantise-dequantise operators inserted into a program before its backward pass is built.

PaddleSlim's passes go over a graph of student, teacher, backward and optimiser operators, several times for
each operator they add. Here the student alone is changed, in one pass over its program. The operators are
the fused ones, `fake_quantize_dequantize_*`: they compute the same numbers as PaddleSlim's pair of a quantise
and a dequantise operator and have a gradient of their own (straight through), so backward can be added
afterwards. Variables are named as PaddleSlim names them: the range (absmax) of `x` is `x@scale`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from picoquant.int8.operators import QuantizableOperator, quantised_name, quantizable_operators, scale_name
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.static.programs import Inserter, output_names, write_variable

ACTIVATION_QUANTISER = "fake_quantize_dequantize_moving_average_abs_max"
# PaddleSlim's range of an activation before anything was measured.
UNMEASURED_RANGE = 0.001


@dataclass(frozen=True)
class QuantiserPorts:
    """The variables that connect an activation's quantiser to its range.

    Attributes:
        inputs: by slot, beside `X`.
        outputs: by slot, beside `Out`.
        follows_data: whether the operator updates the range from each batch.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    follows_data: bool = False


class ActivationRange(Protocol):
    """Provides the range of each quantised activation."""

    def insert(
        self, inserter: Inserter, scope: Any, source: Any, settings: QuantAwareSettings
    ) -> QuantiserPorts:
        """Add the range of one activation to the program.

        Args:
            inserter: positioned before the quantiser.
            scope: receives start values; a variable that is already there keeps its value.
            source: the activation's variable.
            settings: number of bits and decay of moving averages.
        """


class FixedRange:
    """The range that is in the scope, used as it is: for evaluation."""

    def insert(
        self, inserter: Inserter, scope: Any, source: Any, settings: QuantAwareSettings
    ) -> QuantiserPorts:
        """Add `x@scale`."""
        scale = range_variable(inserter, scope, source, "scale", UNMEASURED_RANGE)
        return QuantiserPorts({"InScale": scale}, {"OutScale": scale})


def range_variable(inserter: Inserter, scope: Any, source: Any, part: str, start: float) -> Any:
    """A stored variable `[1]` that belongs to an activation's range, `<activation>@<part>`.

    Args:
        inserter: of the program.
        scope: receives the start value where the variable has none.
        source: the activation's variable.
        part: `scale` for the range itself.
        start: the start value.
    """
    name = f"{source.name}@{part}"
    variable = inserter.variable(name, source, persistable=True, shape=[1])
    if scope.find_var(name) is None:
        write_variable(scope, name, np.array([start], np.float32))
    return variable


def insert_fake_quantisation(
    program: Any,
    scope: Any,
    settings: QuantAwareSettings,
    ranges: ActivationRange,
    operators: tuple[QuantizableOperator, ...] | None = None,
) -> tuple[QuantizableOperator, ...]:
    """Make the rounding of activations and weights to INT8 part of a program.

    Args:
        program: changed in place.
        scope: receives the ranges; those that are already there are kept.
        settings: which operators and how many bits.
        ranges: the activations' ranges: `FixedRange` for evaluation, or a strategy of `qat.learned_ranges` for
            training.
        operators: the operators to quantise; None: all that the settings name.

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
        if operator is None or op.type != operator.op_type:
            index += 1
            continue
        inserter = Inserter(block, index)
        for name in (operator.activation, operator.weight):
            if name not in done:
                if name == operator.weight:
                    done[name] = _quantise_weight(inserter, block, scope, operator, settings)
                else:
                    done[name] = _quantise_activation(inserter, block, scope, name, settings, ranges)
            op._rename_input(name, done[name].name)
        index = inserter.index + 1
    program._sync_with_cpp()
    return operators


def _quantise_activation(
    inserter: Inserter,
    block: Any,
    scope: Any,
    name: str,
    settings: QuantAwareSettings,
    ranges: ActivationRange,
) -> Any:
    source = block.var(name)
    ports = ranges.insert(inserter, scope, source, settings)
    result = inserter.variable(quantised_name(name), source)
    inserter.operator(
        ACTIVATION_QUANTISER,
        {"X": source, **ports.inputs},
        {"Out": result, **ports.outputs},
        {
            "bit_length": settings.activation_bits,
            "moving_rate": settings.moving_rate,
            "is_test": not ports.follows_data,
        },
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
