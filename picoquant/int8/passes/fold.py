"""Batch-norms and biases of an INT8 program in one form: a stored bias `[C]` behind each convolution, no batch-norm.

picoquant's own INT8 models have this form; those of PaddleSlim have batch-norms, and biases that are reshaped. The
integers of a weight stay as they are: a batch-norm's factor goes into the weight's scales, as a driver puts it there,
and where it is negative the channel's integers change sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from picoquant.int8.network import QuantizedOperator
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.batch_norm import PARTS, factor_and_shift
from picoquant.paddle_program.message import ALWAYS, add_attribute

_INT = 0  # framework.proto's AttrType
_SMALLEST = 1e-12  # of a factor: a scale must be above 0


def fold(
    program: Any, values: Mapping[str, np.ndarray], operators: Mapping[str, QuantizedOperator]
) -> tuple[Any, dict[str, np.ndarray], dict[str, QuantizedOperator]]:
    """Write biases as `[C]`, and fold each batch-norm that follows a convolution in INT8.

    Args:
        program: `ProgramDesc` without quantising operators; left as it is.
        values: its stored tensors.
        operators: those on integers, by result.

    Returns: the program, its stored tensors and the operators, all new. A batch-norm behind anything else stays.
    """
    copy = type(program)()
    copy.CopyFrom(program)
    form = _Form(copy.blocks[0], dict(values), dict(operators))
    form.flatten_biases()
    form.fold_batch_norms()
    return copy, form.values, form.operators


class _Form:
    def __init__(self, block: Any, values: dict, operators: dict[str, QuantizedOperator]) -> None:
        self.block, self.values, self.operators = block, values, operators

    def flatten_biases(self) -> None:
        """`reshape2` of a stored bias becomes the bias itself, added at axis 1."""
        reshaped, gone = {}, []
        for op in self.block.ops:
            if op.type in ("reshape2", "reshape") and _name(op.inputs, "X") in self.values:
                reshaped[_name(op.outputs, "Out")] = _name(op.inputs, "X")
                gone.append(op)
            elif op.type == "elementwise_add":
                self._flatten(op, reshaped)
        read = {name for op in self.block.ops for slot in op.inputs for name in slot.arguments}
        for op in gone:
            if _name(op.outputs, "Out") not in read:
                self.block.ops.remove(op)

    def _flatten(self, add: Any, reshaped: Mapping[str, str]) -> None:
        source = _name(add.inputs, "Y")
        value = self.values.get(reshaped.get(source, source))
        if value is None or value.ndim not in (1, 4) or (value.ndim == 4 and value.size != value.shape[1]):
            return
        if value.ndim == 1 and source not in reshaped:
            return
        name = f"{_name(add.outputs, 'Out')}.bias"
        self._store(name, value.reshape(-1))
        _become_bias(add, _name(add.inputs, "X"), name, _name(add.outputs, "Out"))

    def fold_batch_norms(self) -> None:
        """`conv -> (bias ->) batch_norm` becomes `conv -> bias`."""
        for norm in [op for op in self.block.ops if op.type == "batch_norm"]:
            source, result = _name(norm.inputs, "X"), _name(norm.outputs, "Y")
            add = next(
                (op for op in self.block.ops if op.type == "elementwise_add" and self._adds(op, source)), None
            )
            sums = _name(add.inputs, "X") if add is not None else source
            if sums not in self.operators or any(self._readers(name) != 1 for name in {sums, source}):
                continue
            parts = {slot: self.values[_name(norm.inputs, slot)] for slot in PARTS}
            epsilon = next((attribute.f for attribute in norm.attrs if attribute.name == "epsilon"), 1e-5)
            bias = self.values[_name(add.inputs, "Y")] if add is not None else 0.0
            factor, shift = factor_and_shift(parts, epsilon, bias)
            self._scale(sums, factor)
            self._store(f"{result}.bias", shift)
            _become_bias(add if add is not None else norm, sums, f"{result}.bias", result)
            if add is not None:
                self.block.ops.remove(norm)

    def _scale(self, output: str, factor: np.ndarray) -> None:
        """Multiply a weight in INT8; one that other operators read, too, becomes one of this operator's own."""
        operator = self.operators[output]
        if self._readers(operator.weight) > 1:
            name = f"{operator.weight}.{output}"
            conv = next(op for op in self.block.ops if output in _outputs(op))
            for slot in conv.inputs:
                slot.arguments[:] = [name if one == operator.weight else one for one in slot.arguments]
            self._store(name, self.values[operator.weight])
            operator = replace(operator, weight=name)
        self.operators[output] = scaled(operator, factor)

    def _adds(self, op: Any, result: str) -> bool:
        return _name(op.outputs, "Out") == result and _name(op.inputs, "Y") in self.values

    def _readers(self, name: str) -> int:
        return sum(name in slot.arguments for op in self.block.ops for slot in op.inputs)

    def _store(self, name: str, value: np.ndarray) -> None:
        from paddle.base.proto import framework_pb2

        self.values[name] = value
        variable = self.block.vars.add(name=name, persistable=True)
        variable.type.type = framework_pb2.VarType.LOD_TENSOR
        variable.type.lod_tensor.tensor.data_type = framework_pb2.VarType.FP32
        variable.type.lod_tensor.tensor.dims.extend(value.shape)


def scaled(operator: QuantizedOperator, factor: np.ndarray) -> QuantizedOperator:
    """An operator whose weight is multiplied by a factor for each output channel, exactly.

    Args:
        factor: `[out channels]`, of any sign; where it is 0 the integers become 0.
    """
    shape = [-1] + [1] * (operator.integers.ndim - 1)
    sign = np.sign(factor).astype(np.int8).reshape(shape)
    scales = operator.scales * np.maximum(np.abs(factor), _SMALLEST)
    return replace(operator, integers=operator.integers * sign, params=QuantParams(scales, axis=0))


def _outputs(op: Any) -> list[str]:
    return [name for slot in op.outputs for name in slot.arguments]


def _name(slots: Any, slot: str) -> str:
    return next((entry.arguments[0] for entry in slots if entry.parameter == slot and entry.arguments), "")


def _become_bias(op: Any, source: str, bias: str, result: str) -> None:
    ranges = [type(attribute).FromString(attribute.SerializeToString()) for attribute in op.attrs]
    del op.inputs[:], op.outputs[:], op.attrs[:]
    op.type = "elementwise_add"
    op.inputs.add(parameter="X", arguments=[source])
    op.inputs.add(parameter="Y", arguments=[bias])
    op.outputs.add(parameter="Out", arguments=[result])
    op.attrs.extend(attribute for attribute in ranges if "threshold" in attribute.name)
    op.attrs.add(name="axis", type=_INT, i=1)
    for name, value in ALWAYS.items():
        add_attribute(op, name, value)
