"""ONNX files: written, read, and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from picoquant.errors import ToolError, WeightsError
from picoquant.paddle_program.finite import require_finite

_INTEGER = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"}


def write_onnx(model: Any, path: Path) -> None:
    """Write an `onnx.ModelProto`, the same bytes for the same content."""
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


def is_quantised(path: Path) -> bool:
    """Whether an ONNX file quantises anything.

    Raises: `ToolError` when it is no ONNX model.
    """
    return any(node.op_type in _INTEGER for node in read_onnx(path).graph.node)


def read_onnx(path: Path) -> Any:
    """The `ModelProto` of a file, without values that stand in other files.

    Raises: `ToolError` when it is no ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ToolError(f"{path} is no ONNX model or is damaged: export it again") from error


def require_finite_constants(path: Path) -> None:
    """Look at the stored values of an ONNX model; single numbers, as of a Clip, may be infinite.

    Raises: `WeightsError` naming the first one that is not finite, `ToolError` when the file is no model.
    """
    from onnx import TensorProto, numpy_helper

    graph = read_onnx(path).graph
    stored = {value.name: value for value in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for part in node.attribute:
                if part.name == "value":
                    stored[node.output[0]] = part.t
    here = {
        name: value
        for name, value in stored.items()
        if len(value.dims) and value.data_location != TensorProto.EXTERNAL
    }
    try:
        values = {name: numpy_helper.to_array(value) for name, value in here.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path} is a damaged ONNX model: export it again") from error
    require_finite(values, path)
