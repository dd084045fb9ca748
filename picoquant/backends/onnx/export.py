"""The ONNX form of a Paddle model: what ONNX Runtime is given when there is no ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from picoquant.backends.base import Exported, Found
from picoquant.backends.onnx import BACKENDS
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.source import Source
from picoquant.errors import ToolError
from picoquant.int8.network import Int8Network
from picoquant.paddle_program.edit import write_program
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.paddle_program.program import pdmodel_of
from picoquant.targets.profiles import Target


def export(source: Source, out: Path, tool: Found, target: Target | None = None) -> Exported:
    """Write an `.onnx`, see `base.Export`; it is the same for every target.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """
    path = out.with_name(f"{out.name}.onnx")
    write_onnx_form(source, path)
    return Exported((path,), source=source)


def exact_onnx(network: Int8Network) -> Any:
    """The model in which an INT8 network is evaluated: slower than a package's, with the network's own integers.

    Args:
        network: for one image.

    Raises: `ToolError` when ONNX cannot hold it, paddle2onnx refuses it, or a layer is in float: what that takes is
        rounded in ONNX and not in Paddle.
    """
    lacking = BACKENDS[0].scheme.lacks(network)
    if lacking:
        raise ToolError(f"ONNX cannot hold the model: {lacking}")
    for op in network.graph.operators:
        if op.op_type in CONVOLUTIONS and op.results[0] not in network.by_output:
            raise ToolError(f"{op.results[0]} is in float, which ONNX takes rounded values for")
    return make_onnx(network, exact=True)


def write_onnx_form(source: Source, path: Path) -> None:
    """Write a float model as paddle2onnx converts it, an INT8 model as a package holds it.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """
    model, params = source.folder.model, source.folder.params
    if source.quantised:
        made = make_onnx(source.network)
    elif len(source.facts.outputs[0][1]) != 2:
        with pdmodel_of(model) as program:
            made = paddle_to_onnx(program, params)
    else:  # NMS inside: paddle2onnx's form of it is for one image
        single = path.with_suffix(".pdmodel")
        write_program(source.program, single)
        made = paddle_to_onnx(single, params)
        single.unlink()
    write_onnx(made, path)
