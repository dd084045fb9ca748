"""Biases and batch-norms as the simulation takes them: a stored bias `[C]` behind each convolution, no batch-norm.

picoquant's own INT8 models have this form; those of PaddleSlim have batch-norms, and biases that are reshaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from picoquant.errors import ToolError
from picoquant.int8.paddle_reader import QuantizedOperator, QuantizedProgram

_INT = 0  # framework.proto's AttrType


def in_normal_form(
    quantised: QuantizedProgram, params: Mapping[str, np.ndarray]
) -> tuple[QuantizedProgram, dict[str, np.ndarray]]:
    """Write biases as `[C]`, and fuse batch-norms as a driver does.

    Weights stay as they are: a batch-norm's factor goes into the scales of the convolution before it, and where
    it is negative the channel's levels change sign.

    Returns: the program and its stored values, both new.

    Raises: `ToolError` for a batch-norm that does not follow a convolution in INT8.
    """
    network = type(quantised.network)()
    network.CopyFrom(quantised.network)
    form = _Form(network.blocks[0], dict(params), {one.output: one for one in quantised.operators})
    form.flatten_biases()
    form.fuse_batch_norms()
    return QuantizedProgram(network, tuple(form.operators.values()), quantised.ranges), form.values


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
                source = _name(op.inputs, "Y")
                value = self.values.get(reshaped.get(source, source))
                if (
                    value is None
                    or value.ndim not in (1, 4)
                    or (value.ndim == 4 and value.size != value.shape[1])
                ):
                    continue
                if value.ndim == 1 and source not in reshaped:
                    continue
                name = f"{_name(op.outputs, 'Out')}.bias"
                self._store(name, value.reshape(-1))
                _become_bias(op, _name(op.inputs, "X"), name, _name(op.outputs, "Out"))
        for op in gone:
            self.block.ops.remove(op)

    def fuse_batch_norms(self) -> None:
        """`conv -> (bias ->) batch_norm` becomes `conv -> bias`."""
        gone = []
        for norm in [op for op in self.block.ops if op.type == "batch_norm"]:
            source, result = _name(norm.inputs, "X"), _name(norm.outputs, "Y")
            add = next(
                (op for op in self.block.ops if op.type == "elementwise_add" and self._adds(op, source)), None
            )
            sums = _name(add.inputs, "X") if add is not None else source
            if sums not in self.operators or any(self._readers(name) != 1 for name in {sums, source}):
                raise ToolError(
                    f"batch_norm {result} does not follow an INT8 convolution: quantise the model again"
                )
            gamma, beta, mean, variance = (
                self.values[_name(norm.inputs, slot)].astype(np.float64)
                for slot in ("Scale", "Bias", "Mean", "Variance")
            )
            epsilon = next((attribute.f for attribute in norm.attrs if attribute.name == "epsilon"), 1e-5)
            factor = gamma / np.sqrt(variance + epsilon)
            bias = self.values[_name(add.inputs, "Y")] if add is not None else 0.0
            self.operators[sums] = _scaled(self.operators[sums], factor)
            self._store(f"{result}.bias", ((bias - mean) * factor + beta).astype(np.float32))
            _become_bias(add if add is not None else norm, sums, f"{result}.bias", result)
            if add is not None:
                gone.append(norm)
        for op in gone:
            self.block.ops.remove(op)

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


def _scaled(operator: QuantizedOperator, factor: np.ndarray) -> QuantizedOperator:
    sign = np.where(factor < 0, -1, 1).reshape(-1, 1, 1, 1)
    # A factor of 0 leaves the bias alone; the scale must stay above 0.
    scales = operator.weight_scales.astype(np.float64) * np.maximum(np.abs(factor), 1e-12)
    levels = (operator.levels * sign * (factor != 0).reshape(-1, 1, 1, 1)).astype(np.int8)
    return replace(operator, levels=levels, weight_scales=scales, axis=0)


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
