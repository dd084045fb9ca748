"""The ONNX form of a Paddle model: what ONNX Runtime is given when there is no ONNX file."""

from __future__ import annotations

from pathlib import Path

from picoquant.backends.base import Exported, Found
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.source import Source
from picoquant.paddle_program.edit import write_program
from picoquant.targets.profiles import Target


def export(source: Source, out: Path, tool: Found, target: Target | None = None) -> Exported:
    """Write an `.onnx`, see `base.Export`; it is the same for every target.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """
    path = out.with_name(f"{out.name}.onnx")
    write_onnx_form(source, path)
    return Exported((path,), source=source)


def write_onnx_form(source: Source, path: Path) -> None:
    """Write a float model as paddle2onnx converts it, an INT8 model as a package holds it.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """
    model, params = source.folder.model, source.folder.params
    if source.quantised:
        made = make_onnx(source.network)
    elif len(source.facts.outputs[0][1]) != 2:
        made = paddle_to_onnx(model, params)
    else:  # NMS inside: paddle2onnx's form of it is for one image
        single = path.with_suffix(".pdmodel")
        write_program(source.program, single)
        made = paddle_to_onnx(single, params)
        single.unlink()
    write_onnx(made, path)
