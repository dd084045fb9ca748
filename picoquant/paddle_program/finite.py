"""Values that are no finite numbers, found where they are rather than by a mAP of 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from picoquant.errors import WeightsError
from picoquant.paddle_program.model_folder import ModelFolder


def require_finite_params(folder: ModelFolder) -> None:
    """Look at the stored values of an exported model.

    Raises: `WeightsError` naming the first one that is not finite; or when the file is damaged or another
        program's, on which paddle itself might crash.
    """
    from picoquant.paddle_program.params import read_params
    from picoquant.paddle_program.program import read_program

    try:
        values = read_params(read_program(folder.model), folder.params)
    except WeightsError as error:
        raise WeightsError(
            f"{folder.params} does not fit {folder.model.name}: export both again ({error})"
        ) from error
    _require(values, folder.params)


def require_finite_constants(path: Path) -> None:
    """Look at the stored values of an ONNX model; single numbers, as of a Clip, may be infinite.

    Raises: `WeightsError` naming the first one that is not finite, `ToolError` when the file is no model.
    """
    from onnx import TensorProto, numpy_helper

    from picoquant.backends.onnx.runtime import read_onnx

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
    _require(values, path)


def _require(values: Mapping[str, np.ndarray], path: Path) -> None:
    for name, value in values.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise WeightsError(
                f"{path}: {name} holds values that are no finite numbers: make the model again from whole weights"
            )
