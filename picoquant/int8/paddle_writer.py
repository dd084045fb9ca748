"""The INT8 models that quantisation ends in, made from the FP32 program, trained weights and ranges.

Two forms of one network, as PaddleSlim's `convert` writes them:

- for Paddle Lite and Paddle's runtime: weights are whole numbers (-127 to 127); an input is rounded by
  `fake_quantize_moving_average_abs_max`, a result scaled back by `fake_channel_wise_dequantize_max_abs`;
  every operator carries the range of its result as `out_threshold`;
- for ONNX (`onnx_format`): `quantize_linear` and `dequantize_linear` before each input, weights int8.

Biases are whole numbers of units in both (`whole_biases.py`). In the first form every other tensor on the way to an
operator with weights is rounded, too (`ROUNDING`; `tensors.rounded_tensors`), so that Paddle's runtime computes what
integer runtimes compute. opt takes these operators for marks of a range and drops them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.int8.activations import rounded_tensors
from picoquant.int8.operators import QuantizedOperator, scale_name
from picoquant.int8.paddle_reader import ROUNDING
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.int8.weights import QuantisedWeight, quantise_operator
from picoquant.paddle_program.program import KEPT_FLOAT
from picoquant.paddle_program.static import (
    InferenceModel,
    Inserter,
    free_variables,
    is_activation,
    load_model,
    output_names,
    save_program,
    write_variable,
)


@dataclass(frozen=True)
class Int8Source:
    """What an INT8 model is made from.

    Attributes:
        folder: the FP32 model's.
        weights: trained values, by variable.
        ranges: largest absolute value of each activation.
        operators: what runs in INT8.
        settings: numbers of bits.
        kept_float: results of operators that are marked as left in float on purpose.
    """

    folder: Path
    weights: Mapping[str, np.ndarray]
    ranges: Mapping[str, float]
    operators: tuple[QuantizedOperator, ...]
    settings: QuantAwareSettings
    kept_float: frozenset[str] = frozenset()


def write_lite_model(source: Int8Source, executor: Any, folder: Path) -> None:
    """Write the form that Paddle Lite's opt and Paddle's inference runtime read."""
    _write(source, executor, folder, _LiteForm)


def write_onnx_model(source: Int8Source, executor: Any, folder: Path) -> None:
    """Write the form with `quantize_linear` and `dequantize_linear` that paddle2onnx reads."""
    _write(source, executor, folder, _OnnxForm)


def load_source(source: Int8Source, executor: Any) -> InferenceModel:
    """Load the float network with the trained weights into the current scope."""
    loaded = load_model(source.folder, executor)
    block = loaded.program.global_block()
    for name, value in source.weights.items():
        if block.has_var(name) and block.var(name).persistable:
            write_variable(paddle.static.global_scope(), name, value)
    return loaded


def quantised_weights(source: Int8Source, model: InferenceModel) -> dict[str, QuantisedWeight]:
    """What each operator's weight and bias become, by the operator's output.

    Args:
        source: of the INT8 model.
        model: the float network as `load_source` has loaded it into the current scope.
    """
    block, scope = model.program.global_block(), paddle.static.global_scope()
    bits = source.settings.weight_bits, source.settings.activation_bits
    return {
        operator.output: quantise_operator(block, scope, operator, source.ranges, bits)
        for operator in source.operators
    }


def float_values(source: Int8Source, model: InferenceModel) -> dict[str, np.ndarray]:
    """The same in float: by stored variable, the values of the rounded weights and biases."""
    values = {}
    weights, top = quantised_weights(source, model), 2 ** (source.settings.weight_bits - 1) - 1
    for operator in source.operators:
        weight = weights[operator.output]
        shape = [-1 if axis == operator.axis else 1 for axis in range(weight.levels.ndim)]
        step = (weight.largest / top).reshape(shape if operator.axis >= 0 else ())
        values[operator.weight] = (weight.levels * step).astype(np.float32)
        if weight.bias is not None:
            values[weight.bias] = weight.bias_value
    return values


def _write(source: Int8Source, executor: Any, folder: Path, form: type) -> None:
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        loaded = load_source(source, executor)
        program = loaded.program
        form(source, scope, loaded).apply()
        program._sync_with_cpp()
        save_program(program, executor, folder)
        free_variables(program, scope)


class _Form(ABC):
    """Walks a block and rewrites each operator that runs in INT8."""

    def __init__(self, source: Int8Source, scope: Any, model: InferenceModel) -> None:
        self.source, self.scope, self.block = source, scope, model.program.global_block()
        self.done: dict[str, Any] = {}
        self.weight_scales: dict[str, np.ndarray] = {}
        self.weights = quantised_weights(source, model)

    def apply(self) -> None:
        by_output = {operator.output: operator for operator in self.source.operators}
        index = 0
        while index < len(self.block.ops):
            op = self.block.ops[index]
            operator = by_output.get((output_names(op) or [""])[0])
            inserter = Inserter(self.block, index)
            self.every(op)
            if operator is not None and op.type == operator.kind:
                self.before(inserter, op, operator)
            inserter.index += 1
            self.after(inserter, op, operator)
            index = inserter.index

    def every(self, op: Any) -> None:  # noqa: B027  a form may have nothing to do here
        """Called for each operator of the original before it is changed."""

    @abstractmethod
    def before(self, inserter: Inserter, op: Any, operator: QuantizedOperator) -> None:
        """Insert what an operator that runs in INT8 needs before it."""

    @abstractmethod
    def after(self, inserter: Inserter, op: Any, operator: QuantizedOperator | None) -> None:
        """Insert what must follow any operator; `operator` is None for those that stay as they are."""

    def stored(self, inserter: Inserter, name: str, value: np.ndarray, like: Any) -> Any:
        """A stored variable with a value."""
        kind = {"int32": paddle.int32}.get(value.dtype.name, paddle.float32)
        variable = inserter.variable(name, like, persistable=True, shape=list(value.shape), dtype=kind)
        write_variable(self.scope, name, value)
        return variable

    def activation_scale(self, inserter: Inserter, name: str) -> Any:
        value = np.array([self.source.ranges[name]], np.float32)
        return self.stored(inserter, scale_name(name), value, self.block.var(name))

    def levels(self, operator: QuantizedOperator) -> tuple[np.ndarray, np.ndarray]:
        """A weight's whole numbers and ranges; a bias behind it becomes whole."""
        weight = self.weights[operator.output]
        if weight.bias is not None:
            write_variable(self.scope, weight.bias, weight.bias_value)
        return weight.levels, weight.largest


class _LiteForm(_Form):
    def __init__(self, source: Int8Source, scope: Any, model: InferenceModel) -> None:
        super().__init__(source, scope, model)
        names = rounded_tensors(model.program, model.feeds, source.operators)
        self.rounded = {name for name in names if name in source.ranges}

    def every(self, op: Any) -> None:
        if output_names(op)[:1] and output_names(op)[0] in self.source.kept_float:
            op._set_attr("op_namescope", f"/{KEPT_FLOAT}/")
        for slot in op.output_names:
            for position, name in enumerate(op.output(slot)):
                if name in self.source.ranges and is_activation(self.block, name):
                    value = float(self.source.ranges[name])
                    op._set_attr("out_threshold", value)
                    op._set_attr(f"{slot}{position}_threshold", value)
                    op._set_attr("with_quant_attr", True)

    def before(self, inserter: Inserter, op: Any, operator: QuantizedOperator) -> None:
        name = operator.activation
        if name not in self.done:
            scale = self.activation_scale(inserter, name)
            source = self.block.var(name)
            self.done[name] = inserter.variable(f"{name}.quantized", source)
            inserter.operator(
                "fake_quantize_moving_average_abs_max",
                {"X": source, "InScale": scale},
                {"Out": self.done[name], "OutScale": scale},
                {
                    "bit_length": self.source.settings.activation_bits,
                    "moving_rate": self.source.settings.moving_rate,
                    "is_test": True,
                },
            )
        if operator.weight not in self.weight_scales:
            levels, scales = self.levels(operator)
            self.weight_scales[operator.weight] = scales
            write_variable(self.scope, operator.weight, levels.astype(np.float32))
        op._rename_input(name, self.done[name].name)
        op._set_attr("quantization_type", "qat_with_weight")
        op._set_attr("with_quant_attr", True)
        result = self.block.var(operator.output)
        raw = inserter.variable(f"{operator.output}.quantized", result)
        op._rename_output(operator.output, raw.name)

    def after(self, inserter: Inserter, op: Any, operator: QuantizedOperator | None) -> None:
        if operator is not None and op.type == operator.kind:
            self._scale_back(inserter, operator)
            results = [operator.output]
        else:
            results = output_names(op)
        for name in results:
            if name in self.rounded:
                self._round(inserter, name)

    def _round(self, inserter: Inserter, name: str) -> None:
        """Round a tensor for those that do not round it themselves."""
        users = [
            op
            for op in self.block.ops[inserter.index :]
            if name in op.input_arg_names and not self._rounds(op)
        ]
        if not users:
            return
        source, top = self.block.var(name), np.array([self.source.ranges[name]], np.float32)
        scale = self.stored(inserter, f"{name}.rounded@scale", top, source)  # opt drops it with the operator
        result = inserter.variable(f"{name}.rounded", source)
        inserter.operator(
            ROUNDING,
            {"X": source, "InScale": scale},
            {"Out": result, "OutScale": scale},
            {
                "bit_length": self.source.settings.activation_bits,
                "moving_rate": self.source.settings.moving_rate,
                "is_test": True,
            },
        )
        for op in users:
            op._rename_input(name, result.name)

    def _rounds(self, op: Any) -> bool:
        """Whether an operator that comes later will be given levels of its input."""
        return any(one.kind == op.type and one.output in op.output_arg_names for one in self.source.operators)

    def _scale_back(self, inserter: Inserter, operator: QuantizedOperator) -> None:
        settings = self.source.settings
        raw = self.block.var(f"{operator.output}.quantized")
        result = self.block.var(operator.output)
        activation = self.block.var(scale_name(operator.activation))
        scales = self.weight_scales[operator.weight]
        if operator.axis < 0:
            largest = (2 ** (settings.weight_bits - 1) - 1) * (2 ** (settings.activation_bits - 1) - 1)
            inserter.operator(
                "fake_dequantize_max_abs",
                {"X": raw, "Scale": activation},
                {"Out": result},
                {"max_range": float(largest / scales[0])},
            )
            return
        channels = self.stored(inserter, f"{operator.weight}@channel_scale", scales, result)
        inserter.operator(
            "fake_channel_wise_dequantize_max_abs",
            {"X": raw, "Scales": [channels, activation]},
            {"Out": result},
            {
                "quant_bits": [settings.weight_bits, settings.activation_bits],
                "quant_axis": operator.axis,
                "x_num_col_dims": 1 if "conv" in operator.kind else len(result.shape) - 1,
            },
        )


class _OnnxForm(_Form):
    def before(self, inserter: Inserter, op: Any, operator: QuantizedOperator) -> None:
        for name in (operator.activation, operator.weight):
            if name not in self.done:
                make = self._weight if name == operator.weight else self._activation
                self.done[name] = make(inserter, operator)
            op._rename_input(name, self.done[name].name)

    def after(self, inserter: Inserter, op: Any, operator: QuantizedOperator | None) -> None:
        """Results are only marked with their range (`only_observer`), not rounded."""

    def _activation(self, inserter: Inserter, operator: QuantizedOperator) -> Any:
        name = operator.activation
        source, scale = self.block.var(name), self.activation_scale(inserter, name)
        zero = self.stored(inserter, f"{name}@zero_point", np.zeros(1, np.int32), source)
        attrs = {"quant_axis": -1, "bit_length": self.source.settings.activation_bits}
        rounded = inserter.variable(f"{name}.quantized", source)
        inputs = {"X": source, "Scale": scale, "ZeroPoint": zero}
        inserter.operator("quantize_linear", inputs, {"Y": rounded}, attrs)
        result = inserter.variable(f"{name}.quantized.dequantized", source)
        inputs = {"X": rounded, "Scale": scale, "ZeroPoint": zero}
        inserter.operator("dequantize_linear", inputs, {"Y": result}, attrs)
        return result

    def _weight(self, inserter: Inserter, operator: QuantizedOperator) -> Any:
        source = self.block.var(operator.weight)
        levels, scales = self.levels(operator)
        write_variable(self.scope, source.name, levels)
        source.desc.set_dtype(paddle.framework.core.VarDesc.VarType.INT8)
        scale = self.stored(inserter, scale_name(source.name), scales, source)
        zero = np.zeros(len(scales), np.int32)
        zero = self.stored(inserter, f"{source.name}@zero_point", zero, source)
        result = inserter.variable(f"{source.name}.quantized.dequantized", source, dtype=paddle.float32)
        inserter.operator(
            "dequantize_linear",
            {"X": source, "Scale": scale, "ZeroPoint": zero},
            {"Y": result},
            {"quant_axis": operator.axis, "bit_length": self.source.settings.weight_bits},
        )
        return result
