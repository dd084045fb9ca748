"""An `Int8Network` as Paddle programs, in the two forms that PaddleSlim's `convert` writes.

- For Paddle Lite and Paddle's runtime (`form.py`, which says how tensors with a zero point are held): weights are
  integers (-127 to 127) stored as floats, inputs are quantised before an operator and results dequantised behind it.
  Every other tensor in INT8 on the way is rounded, too (`ROUNDING`), so that Paddle's runtime computes what integer
  runtimes compute; opt takes these operators for marks of a range and drops them.
- For ONNX (`onnx_format`): `quantize_linear` and `dequantize_linear` before each input, weights int8.

Programs are written as protobuf messages, without Paddle's static graphs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paddle.base.proto import framework_pb2

from picoquant.int8.network import Int8Network, QuantizedOperator
from picoquant.int8.operators import scale_name
from picoquant.int8.paddle.form import LIMITED, OUT_THRESHOLD, RANGE, ROUNDING, ZERO_POINT, copied, rename
from picoquant.paddle_program.message import add_attribute, add_operator, add_variable
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.params import write_params
from picoquant.paddle_program.program import KEPT_FLOAT, complete
from picoquant.storage.files import whole_file
from picoquant.utils.paddle_version.differences import tensor_of

# Of Paddle's quantising operators; without effect outside training.
_MOVING_RATE = 0.9


def write_lite_model(network: Int8Network, folder: Path) -> None:
    """Write the form that Paddle Lite's opt and Paddle's inference runtime read."""
    _write(_LiteForm(network), folder)


def write_onnx_model(network: Int8Network, folder: Path) -> None:
    """Write the form with `quantize_linear` and `dequantize_linear` that paddle2onnx reads."""
    _write(_OnnxForm(network), folder)


def _write(form: _Form, folder: Path) -> None:
    program, values = form.make()
    complete(program)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / PARAMS, "wb") as stream:
        write_params(program, values, stream)
    with whole_file(folder / MODEL, "wb") as stream:
        stream.write(program.SerializeToString(deterministic=True))


class _Form(ABC):
    """Rewrites each operator on integers of a copy of the network's program."""

    def __init__(self, network: Int8Network) -> None:
        self.network = network
        self.program = copied(network.program)
        self.block = self.program.blocks[0]
        self.values = dict(network.values)
        self.variables = {variable.name: variable for variable in self.block.vars}
        self.new_variables: dict[str, Any] = {}
        self.ops: list[Any] = []
        self.done: dict[str, str] = {}

    def make(self) -> tuple[Any, dict[str, np.ndarray]]:
        """The program and its stored tensors."""
        waiting = [copied(op) for op in self.block.ops]
        by_output = self.network.by_output
        for index, op in enumerate(waiting):
            results = _arguments(op.outputs)
            operator = by_output.get(results[0]) if results else None
            if operator is not None and op.type != operator.op_type:
                operator = None
            self.every(op)
            if operator is not None:
                self.before(op, operator)
            self.ops.append(op)
            self.after(op, operator, waiting[index + 1 :])
        del self.block.ops[:]
        self.block.ops.extend(self.ops)
        self.block.vars.extend(self.new_variables[name] for name in sorted(self.new_variables))
        return self.program, self.values

    def every(self, op: Any) -> None:  # noqa: B027  a form may have nothing to do here
        """Called for each operator of the network before it is changed."""

    @abstractmethod
    def before(self, op: Any, operator: QuantizedOperator) -> None:
        """Add what an operator on integers needs before it."""

    @abstractmethod
    def after(self, op: Any, operator: QuantizedOperator | None, later: Sequence[Any]) -> None:
        """Add what must follow any operator; `operator` is None for those that stay as they are."""

    def add(self, op_type: str, inputs: Mapping, outputs: Mapping, attributes: Mapping[str, Any]) -> None:
        """Add an operator behind those that are there."""
        self.ops.append(add_operator(self.program, op_type, inputs, outputs, attributes))

    def computed(self, name: str, like: str) -> str:
        """A variable of the shape of another."""
        if name not in self.new_variables:
            shape = tensor_of(self.variables[like].type).dims
            self.new_variables[name] = add_variable(self.program, name, shape)
        return name

    def stored(self, name: str, value: np.ndarray) -> str:
        """A stored variable with a value."""
        self.new_variables[name] = add_variable(self.program, name, value.shape, str(value.dtype), True)
        self.values[name] = value
        return name

    def activation_scale(self, name: str) -> str:
        """The stored range of an activation."""
        return self.stored(scale_name(name), np.array([self.grid(name)[1]], np.float32))

    def grid(self, name: str) -> tuple[int, float]:
        """The symmetric grid that holds an activation's values: number of bits, and its largest value."""
        params = self.network.tensors[name].params
        if params.is_symmetric:
            return params.bits, self.network.ranges[name]
        return params.bits + 1, float(params.scale * (2**params.bits - 1))


class _LiteForm(_Form):
    def __init__(self, network: Int8Network) -> None:
        super().__init__(network)
        self.rounded = {
            name for name, tensor in network.tensors.items() if tensor.quantised and tensor.params is not None
        }
        self.weights: dict[str, QuantizedOperator] = {}

    def every(self, op: Any) -> None:
        results = _arguments(op.outputs)
        if results[:1] and results[0] in self.network.ignored:
            add_attribute(op, "op_namescope", f"/{KEPT_FLOAT}/")
        ranges, zeros = self.network.ranges, self.network.zero_points
        for slot in op.outputs:
            for position, name in enumerate(slot.arguments):
                if name in ranges:
                    add_attribute(op, OUT_THRESHOLD, ranges[name])
                    add_attribute(op, f"{slot.parameter}{position}_threshold", ranges[name])
                    add_attribute(op, "with_quant_attr", True)
                if name in zeros:
                    add_attribute(op, f"{slot.parameter}{position}_{ZERO_POINT}", zeros[name])

    def before(self, op: Any, operator: QuantizedOperator) -> None:
        name = operator.activation
        if name not in self.done:
            scale = self.activation_scale(name)
            self.done[name] = self.computed(f"{name}.quantized", name)
            self._moving_average("fake_quantize_moving_average_abs_max", name, scale, self.done[name])
        if operator.weight not in self.weights:
            self.weights[operator.weight] = operator
            self.values[operator.weight] = operator.integers.astype(np.float32)
        rename([op], {name: self.done[name]}, {operator.output: f"{operator.output}.quantized"})
        add_attribute(op, "quantization_type", "qat_with_weight")
        add_attribute(op, "with_quant_attr", True)
        self.computed(f"{operator.output}.quantized", operator.output)

    def after(self, op: Any, operator: QuantizedOperator | None, later: Sequence[Any]) -> None:
        if operator is not None:
            self._scale_back(operator)
            results = [operator.output]
        else:
            results = _arguments(op.outputs)
        for name in results:
            if name in self.rounded:
                self._round(name, later)

    def _moving_average(self, op_type: str, name: str, scale: str, result: str) -> None:
        """Add an operator that rounds a tensor by a stored range."""
        own = {}
        if name in self.network.zero_points:
            own = {ZERO_POINT: self.network.zero_points[name], RANGE: self.network.ranges[name]}
        self.add(
            op_type,
            {"InAccum": [], "InScale": [scale], "InState": [], "X": [self._limited(name)]},
            {"Out": [result], "OutScale": [scale]},
            {
                "round_type": 1,
                "bit_length": self.grid(name)[0],
                "is_test": True,
                "moving_rate": _MOVING_RATE,
                **own,
            },
        )

    def _limited(self, name: str) -> str:
        """A tensor limited to its integers; itself where the grid's ends are theirs."""
        params, limited = self.network.tensors[name].params, f"{name}{LIMITED}"
        if params.is_symmetric:
            return name
        if limited not in self.new_variables:
            ends = {"min": float(params.lowest), "max": float(params.highest)}
            self.add("clip", {"X": [name]}, {"Out": [self.computed(limited, name)]}, ends)
        return limited

    def _round(self, name: str, later: Sequence[Any]) -> None:
        """Round a tensor for those that do not round it themselves."""
        users = [op for op in later if name in _arguments(op.inputs) and not self._quantises(op)]
        if not users:
            return
        absmax = np.array([self.grid(name)[1]], np.float32)
        scale = self.stored(f"{name}.rounded@scale", absmax)  # opt drops it with the operator
        result = self.computed(f"{name}.rounded", name)
        self._moving_average(ROUNDING, name, scale, result)
        rename(users, {name: result}, {})

    def _quantises(self, op: Any) -> bool:
        """Whether an operator that comes later will read integers."""
        return any(
            one is not None and one.op_type == op.type
            for one in map(self.network.by_output.get, _arguments(op.outputs))
        )

    def _scale_back(self, operator: QuantizedOperator) -> None:
        weight = self.weights[operator.weight]
        activation = scale_name(operator.activation)
        raw, bits = f"{operator.output}.quantized", self.grid(operator.activation)[0]
        largest = weight.params.qmax
        if weight.params.axis < 0:
            top = largest * (2 ** (bits - 1) - 1)
            self.add(
                "fake_dequantize_max_abs",
                {"Scale": [activation], "X": [raw]},
                {"Out": [operator.output]},
                {"max_range": float(top / np.float32(weight.params.scale * largest))},
            )
            return
        absmax = (weight.scales * largest).astype(np.float32)
        channels = self.stored(f"{operator.weight}@channel_scale", absmax)
        rank = len(tensor_of(self.variables[operator.output].type).dims)
        self.add(
            "fake_channel_wise_dequantize_max_abs",
            {"Scales": [channels, activation], "X": [raw]},
            {"Out": [operator.output]},
            {
                "quant_axis": weight.params.axis,
                "quant_bits": [weight.params.bits, bits],
                "x_num_col_dims": 1 if "conv" in operator.op_type else rank - 1,
            },
        )


class _OnnxForm(_Form):
    def before(self, op: Any, operator: QuantizedOperator) -> None:
        for name, make in ((operator.activation, self._activation), (operator.weight, self._weight)):
            if name not in self.done:
                self.done[name] = make(operator)
            rename([op], {name: self.done[name]}, {})

    def after(self, op: Any, operator: QuantizedOperator | None, later: Sequence[Any]) -> None:
        """Results are only marked with their range (`only_observer`), not rounded."""

    def _activation(self, operator: QuantizedOperator) -> str:
        name = operator.activation
        scale, zero = self.activation_scale(name), self.stored(f"{name}@zero_point", np.zeros(1, np.int32))
        attributes = {"quant_axis": -1, "bit_length": self.network.tensors[name].params.bits}
        rounded = self.computed(f"{name}.quantized", name)
        inputs = {"Scale": [scale], "ZeroPoint": [zero]}
        self.add("quantize_linear", {**inputs, "X": [name]}, {"Y": [rounded]}, attributes)
        result = self.computed(f"{name}.quantized.dequantized", name)
        self.add("dequantize_linear", {**inputs, "X": [rounded]}, {"Y": [result]}, attributes)
        return result

    def _weight(self, operator: QuantizedOperator) -> str:
        name, params = operator.weight, operator.params
        self.values[name] = operator.integers
        tensor_of(self.variables[name].type).data_type = framework_pb2.VarType.INT8
        absmax = (operator.scales * params.qmax).astype(np.float32)
        scale = self.stored(scale_name(name), absmax)
        zero = self.stored(f"{name}@zero_point", np.zeros(len(absmax), np.int32))
        result = self.computed(f"{name}.quantized.dequantized", name)
        self.add(
            "dequantize_linear",
            {"Scale": [scale], "X": [name], "ZeroPoint": [zero]},
            {"Y": [result]},
            {"quant_axis": params.axis, "bit_length": params.bits},
        )
        return result


def _arguments(slots: Any) -> list[str]:
    return [name for slot in slots for name in slot.arguments]
