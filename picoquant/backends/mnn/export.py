"""The `.mnn` of a model, float or INT8 with the network's own scales, made of its ONNX form by MNN's converter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from picoquant.backends.base import Exported, Found
from picoquant.backends.mnn.compression import compression
from picoquant.backends.mnn.converter import convert
from picoquant.backends.onnx.export import write_onnx_form
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.qdq import float_graph
from picoquant.backends.source import Source
from picoquant.errors import ToolError
from picoquant.storage.files import whole_file
from picoquant.targets.profiles import Target

NOTE = "results of convolutions are rounded, too"


def export(
    source: Source, out: Path, tool: Found, target: Target | None = None, half: bool = False
) -> Exported:
    """Write a `.mnn`, see `base.Export`; it is the same for every target.

    Args:
        source, out, tool, target: see `base.Export`.
        half: store float weights as float16.

    Raises: `ToolError` with the converter's word when it does not take the model.
    """
    import onnx

    if len(source.facts.inputs) != 1:
        names = ", ".join(name for name, _ in source.facts.inputs)
        raise ToolError(f"the model takes {names}: for MNN export it as raw (export.post_process: false)")
    path = out.with_name(f"{out.name}.mnn")
    with tempfile.TemporaryDirectory(prefix="picoquant-mnn-") as scratch:
        form, made = Path(scratch) / "model.onnx", Path(scratch) / "model.mnn"
        options = ["--fp16"] if half else []
        if source.quantised:
            model = float_graph(source.network).finish()
            scales = Path(scratch) / "scales.bin"
            scales.write_bytes(compression(source.network, number_outputs(model)))
            options += ["--compressionParamsFile", str(scales)]
        else:
            write_onnx_form(source, form)
            model = onnx.load(form)
            number_outputs(model)
        write_onnx(model, form)
        convert(tool.path, form, made, options)
        with whole_file(path, "wb") as stream:
            stream.write(made.read_bytes())
    return Exported((path,), source=source, note=NOTE if source.quantised else "")


def number_outputs(model: Any) -> dict[str, str]:
    """Name the outputs of an ONNX model `output_00`, `output_01`, …: MNN keeps names and not their order.

    Args:
        model: changed in place.

    Returns: new names by the old ones.
    """
    names = {output.name: f"output_{index:02}" for index, output in enumerate(model.graph.output)}
    for values in (model.graph.output, model.graph.value_info):
        for value in values:
            value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return names
