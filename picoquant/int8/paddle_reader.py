"""Read an INT8 Paddle program: which operators compute on integers, their scales, and the network without.

A *level* is an integer, -127 to 127; a *scale* is the value of one level, as in ONNX (Paddle's own scale is
the largest value, 127 levels).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import WeightsError
from picoquant.paddle_program.params import read_params, write_params

_BITS = 8
_LARGEST = 2 ** (_BITS - 1) - 1
_QUANTISE = ("fake_quantize_moving_average_abs_max", "fake_quantize_range_abs_max")
# Rounds a tensor that no operator takes in levels; opt drops it.
ROUNDING = "fake_quantize_dequantize_moving_average_abs_max"
_DEQUANTISE = ("fake_channel_wise_dequantize_max_abs", "fake_dequantize_max_abs")


@dataclass(frozen=True)
class QuantizedOperator:
    """An operator on integers.

    Attributes:
        kind: its type, for example `conv2d`.
        output: name of its result.
        activation: name of the input that is computed.
        activation_scale: value of one level of it.
        weight: name of the stored input.
        levels: the weight, int8, in Paddle's layout.
        weight_scales: value of one level, `[channels]` or `[1]`, float32.
        axis: the weight's axis that `weight_scales` runs along; -1: one for all.
    """

    kind: str
    output: str
    activation: str
    activation_scale: float
    weight: str
    levels: np.ndarray
    weight_scales: np.ndarray
    axis: int


@dataclass(frozen=True)
class QuantizedProgram:
    """An INT8 program taken apart.

    Attributes:
        network: `ProgramDesc` without quantising operators; its quantised weights are still levels.
        operators: what computes on integers, in the network's order.
        ranges: largest absolute value of each result, as it was measured (`out_threshold`); may be empty.
    """

    network: Any
    operators: tuple[QuantizedOperator, ...]
    ranges: Mapping[str, float]

    @property
    def learnt_ranges(self) -> dict[str, float]:
        """Largest absolute value of each tensor that the operators take in levels."""
        found: dict[str, float] = {}
        for operator in self.operators:
            top = operator.activation_scale * _LARGEST
            found[operator.activation] = max(top, found.get(operator.activation, 0.0))
        return found


def read_quantised(program: Any, params: Mapping[str, np.ndarray], path: Path) -> QuantizedProgram:
    """Take an INT8 program apart.

    Args:
        program: `ProgramDesc` in Paddle Lite's form (`fake_quantize_*`, `fake_*dequantize*`).
        params: its stored values.
        path: for messages.

    Raises: `WeightsError` for a float model, one in the `onnx_format`, or one with other than 8 bits.
    """
    network = without_rounding(program)
    block = network.blocks[0]
    kinds = {op.type for op in block.ops}
    if kinds & {"quantize_linear", "dequantize_linear"}:
        raise WeightsError(
            f"{path} is quantised in the onnx_format; package the INT8 model in Paddle Lite's form "
            "(`picoquant quantize` writes it beside)"
        )
    if not kinds & set(_QUANTISE):
        raise WeightsError(f"{path} is a float model; a package needs an INT8 one: run `picoquant quantize`")
    taken = list(_take_apart(block, params, path))
    kept = [op for op in block.ops if op.type not in (*_QUANTISE, *_DEQUANTISE)]
    if len(taken) == 0 or any("fake_" in op.type for op in kept):
        strange = sorted({op.type for op in kept if "fake_" in op.type})
        raise WeightsError(f"{path} is not a finished INT8 model (it has {strange}): quantise it again")
    renamed = {name: op.output for name, op in taken}
    _rename(kept, {}, renamed)
    sources = {_name(op.outputs, "Out"): _name(op.inputs, "X") for op in block.ops if op.type in _QUANTISE}
    _rename(kept, sources, {})
    kept = [_copy(op) for op in kept]
    del block.ops[:]
    block.ops.extend(kept)
    return QuantizedProgram(network, tuple(op for _, op in taken), _measured(block))


def without_rounding(program: Any) -> Any:
    """A copy of a program in which no tensor is rounded that no operator takes in levels.

    Their ranges are known from what the operators carry (`out_threshold`). The variables stay.
    """
    network = type(program)()
    network.CopyFrom(program)
    block = network.blocks[0]
    sources = {_name(op.outputs, "Out"): _name(op.inputs, "X") for op in block.ops if op.type == ROUNDING}
    kept = [_copy(op) for op in block.ops if op.type != ROUNDING]
    _rename(kept, sources, {})
    del block.ops[:]
    block.ops.extend(kept)
    return network


def files_without_rounding(program: Any, params: Path, place: Path) -> tuple[Any, Path]:
    """A program and its values for opt, which leaves marks on operators behind such rounding.

    Args:
        program: float or INT8.
        params: its `.pdiparams`.
        place: where values are written if need be.

    Returns: the program without rounding, and where its values are; what was given if it has none.
    """
    scales = {_name(op.inputs, "InScale") for op in program.blocks[0].ops if op.type == ROUNDING}
    if not scales:
        return program, params
    values, network = read_params(program, params), without_rounding(program)
    block = network.blocks[0]
    used = {name for op in block.ops for slot in op.inputs for name in slot.arguments}
    kept = [_copy(variable) for variable in block.vars if variable.name not in scales - used]
    del block.vars[:]
    block.vars.extend(kept)
    write_params(network, values, place)
    return network, place


def _measured(block: Any) -> dict[str, float]:
    """Ranges that the operators carry, by result."""
    found = {}
    for op in block.ops:
        numbers = {attribute.name: attribute.f for attribute in op.attrs if "threshold" in attribute.name}
        single = sum(len(slot.arguments) for slot in op.outputs) == 1
        for slot in op.outputs:
            for position, name in enumerate(slot.arguments):
                top = numbers.get(f"{slot.parameter}{position}_threshold")
                if top is None and single:
                    top = numbers.get("out_threshold")
                if top:
                    found[name] = top
    return found


def float_weights(quantised: QuantizedProgram, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The stored values of `quantised.network`, weights in levels scaled back to float32.

    With them the network computes what the INT8 model computes but for the rounding of activations.

    Raises: `WeightsError` when two operators scale one weight differently.
    """
    values = dict(params)
    done: dict[str, np.ndarray] = {}
    for op in quantised.operators:
        shape = [1] * op.levels.ndim
        if len(op.weight_scales) > 1:
            shape[op.axis] = -1
        value = op.levels.astype(np.float32) * op.weight_scales.reshape(shape)
        if op.weight in done and not np.array_equal(done[op.weight], value):
            raise WeightsError(f"weight {op.weight} has two scales: quantise the model again")
        values[op.weight] = done[op.weight] = value
    return values


def _take_apart(block: Any, params: Mapping[str, np.ndarray], path: Path) -> Iterator[tuple]:
    """`(name of the result in levels, operator)` for each operator whose result is scaled back."""
    activations, makers = {}, {}
    for op in block.ops:
        if op.type in _QUANTISE:
            _check_bits(_attribute(op, "bit_length", _BITS), op, path)
            largest = _value(params, _name(op.inputs, "InScale"), path)
            activations[_name(op.outputs, "Out")] = (_name(op.inputs, "X"), float(largest[0]) / _LARGEST)
        elif op.type in _DEQUANTISE:
            raw = _name(op.inputs, "X")
            yield raw, _operator(makers[raw], op, activations, params, path)
        for name in (name for slot in op.outputs for name in slot.arguments):
            makers[name] = op


def _operator(op: Any, back: Any, activations: Mapping, params: Mapping, path: Path) -> QuantizedOperator:
    """`op` computes in levels, `back` scales its result back."""
    names = [name for slot in op.inputs for name in slot.arguments]
    quantised = [name for name in names if name in activations]
    output = _name(back.outputs, "Out")
    if len(quantised) != 1:
        raise WeightsError(f"{path}: {op.type} {output} has no input scale: quantise the model again")
    if back.type == "fake_dequantize_max_abs":
        scales, axis = np.array([_LARGEST / _attribute(back, "max_range", 0.0)]), -1
    else:
        for bits in _attribute(back, "quant_bits", [_BITS]):
            _check_bits(bits, back, path)
        scales = _value(params, _names(back.inputs, "Scales")[0], path).reshape(-1) / _LARGEST
        axis = _attribute(back, "quant_axis", 0)
    weight = next(name for name in names if name in params and name not in quantised)
    activation, scale = activations[quantised[0]]
    levels = np.rint(_value(params, weight, path))
    if np.abs(levels).max(initial=0) > _LARGEST:
        raise WeightsError(f"{path}: weight {weight} is not in 8-bit levels: quantise the model again")
    return QuantizedOperator(
        op.type,
        output,
        activation,
        scale,
        weight,
        levels.astype(np.int8),
        scales.astype(np.float32),
        axis,
    )


def _check_bits(bits: int, op: Any, path: Path) -> None:
    if bits != _BITS:
        raise WeightsError(f"{path}: {op.type} has {bits} bits; NPU packages take {_BITS} (QuantAware)")


def _value(params: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in params:
        raise WeightsError(f"{path}: the value of {name} is missing: quantise the model again")
    return params[name]


def _names(slots: Any, slot: str) -> list[str]:
    return [name for entry in slots if entry.parameter == slot for name in entry.arguments]


def _name(slots: Any, slot: str) -> str:
    return _names(slots, slot)[0]


def _attribute(op: Any, name: str, default: Any) -> Any:
    for attribute in op.attrs:
        if attribute.name == name:
            return attribute.f or attribute.i or list(attribute.ints) or default
    return default


def _copy(op: Any) -> Any:
    """A message that outlives the block it was in."""
    copy = type(op)()
    copy.CopyFrom(op)
    return copy


def _rename(ops: list, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    for op in ops:
        for slots, names in ((op.inputs, inputs), (op.outputs, outputs)):
            for slot in slots:
                for position, name in enumerate(slot.arguments):
                    slot.arguments[position] = names.get(name, name)
