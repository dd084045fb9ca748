"""LiteRT in tests: every tensor of a file, and each of its operators by itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

interpreter = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="LiteRT is not installed: pip install 'picoquant[tflite]'"
)
KERNELS = interpreter.OpResolverType
REFERENCE, OWN, XNNPACK = KERNELS.BUILTIN_REF, KERNELS.BUILTIN_WITHOUT_DEFAULT_DELEGATES, KERNELS.AUTO


def opened(content: bytes, kernels: Any, **more: Any) -> Any:
    """An interpreter that is ready to be fed."""
    made = interpreter.Interpreter(
        model_content=content, experimental_op_resolver_type=kernels, num_threads=1, **more
    )
    made.allocate_tensors()
    return made


def model_of(content: bytes) -> Any:
    """The file as TFLite's schema has it."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def operator_kinds(content: bytes) -> list[str]:
    """Names of the operators, in order."""
    from ai_edge_litert import schema_py_generated as schema

    model = model_of(content)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    return [names[model.operatorCodes[op.opcodeIndex].builtinCode] for op in model.subgraphs[0].operators]


def tensor_types(content: bytes) -> set[str]:
    """Names of the types of all tensors."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    return {names[tensor.type] for tensor in model_of(content).subgraphs[0].tensors}


def every_tensor(content: bytes, image: np.ndarray, kernels: Any = REFERENCE) -> dict[int, np.ndarray]:
    """Integers of all tensors by index; `image` is the file's own input."""
    made = opened(content, kernels, experimental_preserve_all_tensors=True)
    made.set_tensor(made.get_input_details()[0]["index"], image)
    made.invoke()
    count = len(model_of(content).subgraphs[0].tensors)
    return {index: made.get_tensor(index).copy() for index in range(count)}


def each_alone(
    content: bytes, values: Mapping[int, np.ndarray], kernels: Any
) -> Iterator[tuple[str, list[np.ndarray], list[np.ndarray]]]:
    """For each operator of a file by itself: its name, its results, and the values they are to have.

    Args:
        content: of the file.
        values: of all its tensors; what an operator reads is taken from them.
        kernels: what computes.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, kinds = model_of(content), operator_kinds(content)
    tensors = model.subgraphs[0].tensors
    for kind, op in zip(kinds, model.subgraphs[0].operators):
        one, graph = schema.ModelT(), schema.SubGraphT()
        one.version, one.operatorCodes = 3, [model.operatorCodes[op.opcodeIndex]]
        one.buffers, one.subgraphs = [schema.BufferT()], [graph]
        graph.tensors, fed = [], []
        for position, index in enumerate([*op.inputs, *op.outputs]):
            tensor, buffer = copy.copy(tensors[index]), model.buffers[tensors[index].buffer]
            tensor.buffer = 0
            if buffer.data is not None and len(buffer.data):
                one.buffers.append(buffer)
                tensor.buffer = len(one.buffers) - 1
            elif position < len(op.inputs):
                fed.append((position, index))
            graph.tensors.append(tensor)
        alone = copy.copy(op)
        alone.opcodeIndex = 0
        alone.inputs = list(range(len(op.inputs)))
        alone.outputs = list(range(len(op.inputs), len(graph.tensors)))
        graph.operators, graph.inputs, graph.outputs = [alone], [place for place, _ in fed], alone.outputs
        builder = flatbuffers.Builder(1024)
        builder.Finish(one.Pack(builder), b"TFL3")
        made = opened(bytes(builder.Output()), kernels)
        for place, index in fed:
            made.set_tensor(place, values[index])
        made.invoke()
        yield (
            kind,
            [made.get_tensor(place) for place in alone.outputs],
            [values[index] for index in op.outputs],
        )
