"""The beginning of a `.tflite`: to find the operator at which a compiler crashes."""

from __future__ import annotations

from typing import Any

from picoquant.backends.tflite.flatbuffer import IDENTIFIER


def operator_names(content: bytes) -> list[str]:
    """Type and result of each operator, for example `CONV_2D relu6_0.tmp_0`."""
    import ai_edge_litert.schema_py_generated as schema

    model = _read(content)
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    graph = model.subgraphs[0]
    return [
        f"{kinds[model.operatorCodes[op.opcodeIndex].builtinCode]} {_text(graph.tensors[op.outputs[0]].name)}"
        for op in graph.operators
    ]


def first_operators(content: bytes, count: int) -> bytes:
    """A model of the first operators of another; its outputs are the results that none of them reads.

    Args:
        content: of a `.tflite`.
        count: operators to keep, at least 1.
    """
    import flatbuffers

    model = _read(content)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:count]
    read = {index for op in graph.operators for index in op.inputs}
    graph.outputs = [index for op in graph.operators for index in op.outputs if index not in read]
    model.signatureDefs = None
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _read(content: bytes) -> Any:
    import ai_edge_litert.schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
