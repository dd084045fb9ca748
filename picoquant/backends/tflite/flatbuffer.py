"""A TFLite model being written: tensors and operators of TFLite's schema, one subgraph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from picoquant.int8.quant_params import QuantParams

IDENTIFIER = b"TFL3"
_VERSION = 3  # of the schema
_LAST_OLD_CODE = 127  # operators beyond it have no place in the field that old readers read
_TYPES = {"int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64"}
# Versions in which operators take the integers, where these are not their first: (8 bits, 16 bits).
_VERSIONS = {
    "ADD": (2, 3), "AVERAGE_POOL_2D": (2, 3), "CONCATENATION": (2, 3), "CONV_2D": (3, 4),
    "DEPTHWISE_CONV_2D": (3, 5), "HARD_SWISH": (1, 1), "LEAKY_RELU": (2, 2), "LOGISTIC": (2, 3),
    "MAX_POOL_2D": (2, 3), "MEAN": (2, 3), "MUL": (2, 4), "PAD": (2, 3), "PADV2": (2, 3), "QUANTIZE": (2, 2),
    "RELU": (2, 2), "RELU6": (2, 2), "RESIZE_NEAREST_NEIGHBOR": (2, 4), "SLICE": (2, 4), "SPLIT": (2, 4),
    "SPLIT_V": (2, 2), "TANH": (2, 3), "TRANSPOSE": (2, 4),
}  # fmt: skip


class ModelWriter:
    """Collects a model.

    Args:
        bits: of activations, 8 or 16.
    """

    def __init__(self, bits: int = 8) -> None:
        import ai_edge_litert.schema_py_generated as schema

        self._schema, self._wide = schema, bits == 16
        self.graph = schema.SubGraphT()
        self.graph.name, self.graph.tensors, self.graph.operators = "main", [], []
        self.buffers = [schema.BufferT()]  # the first is that of computed tensors
        self._codes: dict[str, int] = {}
        self._constants: dict[tuple, int] = {}
        self._operator_codes: list[Any] = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        kind: str,
        params: QuantParams | None = None,
        data: np.ndarray | None = None,
        axis: int = 0,
    ) -> int:
        """Add a tensor; returns its index.

        Args:
            name: for people.
            shape: as stored.
            kind: `int8`, `int16`, `int32` or `int64`.
            params: its quantisation; None: plain numbers.
            data: a constant's values.
            axis: that several scales belong to.
        """
        schema, made = self._schema, self._schema.TensorT()
        made.name, made.shape = name, [int(size) for size in shape]
        made.type, made.buffer = getattr(schema.TensorType, _TYPES[kind]), 0
        if params is not None:
            scales = np.atleast_1d(np.asarray(params.scale, np.float32))
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = scales.tolist()
            made.quantization.zeroPoint = [params.zero_point] * len(scales)
            made.quantization.quantizedDimension = axis if len(scales) > 1 else 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, kind).tobytes(), np.uint8)
            self.buffers.append(buffer)
            made.buffer = len(self.buffers) - 1
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def numbers(self, values: Sequence) -> int:
        """An INT32 constant that operators take as argument: sizes, axes; equal ones are stored once."""
        array = np.asarray(values, np.int32)
        key = (array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.tensor(
                f"numbers.{len(self._constants)}", array.shape, "int32", data=array
            )
        return self._constants[key]

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", **values: Any
    ) -> None:
        """Add an operator.

        Args:
            name: of the schema's `BuiltinOperator`.
            inputs, outputs: tensors.
            options: name of its options' table; empty: it has none.
            values: of the options.
        """
        schema, made = self._schema, self._schema.OperatorT()
        made.opcodeIndex = self._code(name)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if options:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            made.builtinOptions = getattr(schema, f"{options}T")()
            for key, value in values.items():
                assert hasattr(made.builtinOptions, key), (options, key)
                setattr(made.builtinOptions, key, value)
        self.graph.operators.append(made)

    def _code(self, name: str) -> int:
        if name not in self._codes:
            made = self._schema.OperatorCodeT()
            made.builtinCode = getattr(self._schema.BuiltinOperator, name)
            made.deprecatedBuiltinCode = min(made.builtinCode, _LAST_OLD_CODE)
            made.version = _VERSIONS.get(name, (1, 1))[self._wide]
            self._codes[name] = len(self._operator_codes)
            self._operator_codes.append(made)
        return self._codes[name]

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file's content."""
        import flatbuffers

        model = self._schema.ModelT()
        model.version, model.description = _VERSION, "picoquant"
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        model.subgraphs, model.buffers, model.operatorCodes = [self.graph], self.buffers, self._operator_codes
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())
