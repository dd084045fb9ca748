"""Read an INT8 Paddle program as an `Int8Network`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import WeightsError
from picoquant.int8.build import assemble
from picoquant.int8.network import Int8Network, QuantizedOperator
from picoquant.int8.paddle.form import (
    DEQUANTISE,
    QUANTISE,
    RANGE,
    ZERO_POINT,
    copied,
    is_limit,
    limits,
    name_at,
    names_at,
    out_thresholds,
    rename,
    without_rounding,
    zero_points,
)
from picoquant.int8.passes.fold import fold
from picoquant.int8.quant_params import SMALLEST_RANGE, QuantParams
from picoquant.paddle_program.program import KEPT_FLOAT

_BITS = 8
_LARGEST = 2 ** (_BITS - 1) - 1


def read_network(program: Any, values: Mapping[str, np.ndarray], path: Path) -> Int8Network:
    """Read an INT8 program.

    Args:
        program: `ProgramDesc` in Paddle Lite's form (`paddle_form.py`); left as it is.
        values: its stored tensors.
        path: for messages.

    Raises: `WeightsError` for a float model, one in the `onnx_format`, or one with other than 8 bits.
    """
    network, operators, learnt = take_apart(program, values, path)
    measured = out_thresholds(network.blocks[0])
    ignored = frozenset(
        name
        for op in network.blocks[0].ops
        if any(attribute.name == "op_namescope" and KEPT_FLOAT in attribute.s for attribute in op.attrs)
        for name in [name for slot in op.outputs for name in slot.arguments][:1]
    )
    ranges = {**{name: absmax for name, absmax in measured.items() if absmax > 0}, **learnt}
    zeros = zero_points(program.blocks[0])
    for op in program.blocks[0].ops:  # the network's inputs have no operator that carries theirs
        own = _own_zero_point(op)
        if own is not None:
            source = name_at(op.inputs, "X")
            zeros[limits(program.blocks[0]).get(source, source)] = own
    return assemble(*fold(network, values, operators), ranges, ignored, zeros)


def take_apart(
    program: Any, values: Mapping[str, np.ndarray], path: Path
) -> tuple[Any, dict[str, QuantizedOperator], dict[str, float]]:
    """A copy of a program without quantising operators, its operators on integers, the ranges they quantise with.

    Args, Raises: as `read_network`.

    Returns: the program; the operators by result, in the network's order; the range (value of 127 steps) of each
        tensor that they read as integers.
    """
    network = without_rounding(program)
    block = network.blocks[0]
    kinds = {op.type for op in block.ops}
    if kinds & {"quantize_linear", "dequantize_linear"}:
        raise WeightsError(
            f"{path} is quantised in the onnx_format; package the INT8 model in Paddle Lite's form "
            "(`picoquant quantize` writes it beside)"
        )
    if not kinds & set(QUANTISE):
        raise WeightsError(f"{path} is a float model; a package needs an INT8 one: run `picoquant quantize`")
    found = list(_operators(block, values, path))
    limited = limits(block)
    kept = [op for op in block.ops if op.type not in (*QUANTISE, *DEQUANTISE) and not is_limit(op)]
    if len(found) == 0 or any("fake_" in op.type for op in kept):
        strange = sorted({op.type for op in kept if "fake_" in op.type})
        raise WeightsError(f"{path} is not a finished INT8 model (it has {strange}): quantise it again")
    rename(kept, {}, {raw: operator.output for raw, operator, _ in found})
    sources = {name_at(op.outputs, "Out"): name_at(op.inputs, "X") for op in block.ops if op.type in QUANTISE}
    rename(kept, {name: limited.get(source, source) for name, source in sources.items()}, {})
    kept = [copied(op) for op in kept]
    del block.ops[:]
    block.ops.extend(kept)
    learnt: dict[str, float] = {}
    for _, operator, absmax in found:
        learnt[operator.activation] = max(absmax, learnt.get(operator.activation, 0.0))
    return network, {operator.output: operator for _, operator, _ in found}, learnt


def _operators(
    block: Any, values: Mapping[str, np.ndarray], path: Path
) -> Iterator[tuple[str, QuantizedOperator, float]]:
    """For each operator whose result is scaled back: the result's name before that, the operator, its input's range."""
    activations, makers, limited = {}, {}, limits(block)
    for op in block.ops:
        if op.type in QUANTISE:
            bits = _BITS if _own_zero_point(op) is None else _BITS + 1
            _check_bits(_attribute(op, "bit_length", _BITS), op, path, bits)
            absmax = _value(values, name_at(op.inputs, "InScale"), path)
            value = float(absmax[0]) if bits == _BITS else _attribute(op, RANGE, 0.0)
            source = name_at(op.inputs, "X")
            if not 0 <= value < math.inf:
                raise WeightsError(
                    f"{path}: tensor {source} has the range {value:g}: quantise the model again"
                )
            value = max(value, SMALLEST_RANGE)  # Paddle's operators make 0 of all values where it is 0
            activations[name_at(op.outputs, "Out")] = (limited.get(source, source), value, bits)
        elif op.type in DEQUANTISE:
            raw = name_at(op.inputs, "X")
            yield raw, *_operator(makers[raw], op, activations, values, path)
        for name in (name for slot in op.outputs for name in slot.arguments):
            makers[name] = op


def _operator(
    op: Any, back: Any, activations: Mapping, values: Mapping[str, np.ndarray], path: Path
) -> tuple[QuantizedOperator, float]:
    """`op` computes on integers, `back` scales its result back."""
    names = [name for slot in op.inputs for name in slot.arguments]
    quantised = [name for name in names if name in activations]
    output = name_at(back.outputs, "Out")
    if len(quantised) != 1:
        raise WeightsError(f"{path}: {op.type} {output} has no input scale: quantise the model again")
    activation, range_of_input, input_bits = activations[quantised[0]]
    if back.type == "fake_dequantize_max_abs":
        top = 2 ** (input_bits - 1) - 1
        scales, axis = np.array([top / _attribute(back, "max_range", 0.0)]), -1
    else:
        for bits, expected in zip(_attribute(back, "quant_bits", [_BITS]), (_BITS, input_bits)):
            _check_bits(bits, back, path, expected)
        absmax = _value(values, names_at(back.inputs, "Scales")[0], path).reshape(-1)
        scales = absmax.astype(np.float64) / _LARGEST
        axis = _attribute(back, "quant_axis", 0)
    weight = next(name for name in names if name in values and name not in quantised)
    integers = np.rint(_value(values, weight, path))
    if np.abs(integers).max(initial=0) > _LARGEST:
        raise WeightsError(f"{path}: weight {weight} is not in 8-bit levels: quantise the model again")
    params = QuantParams(scales if axis >= 0 else float(scales[0]), axis=axis)
    return QuantizedOperator(
        op.type, output, activation, weight, integers.astype(np.int8), params
    ), range_of_input


def _own_zero_point(op: Any) -> int | None:
    """The zero point of the tensor that a quantiser reads; None where it is symmetric."""
    return next((attribute.i for attribute in op.attrs if attribute.name == ZERO_POINT), None)


def _check_bits(bits: int, op: Any, path: Path, expected: int) -> None:
    if bits != expected:
        raise WeightsError(f"{path}: {op.type} has {bits} bits; NPU packages take {_BITS} (QuantAware)")


def _value(values: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in values:
        raise WeightsError(f"{path}: the value of {name} is missing: quantise the model again")
    return values[name]


def _attribute(op: Any, name: str, default: Any) -> Any:
    for attribute in op.attrs:
        if attribute.name == name:
            return attribute.f or attribute.i or list(attribute.ints) or default
    return default
