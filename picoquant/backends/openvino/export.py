"""OpenVINO's IR of a model: `.xml` and `.bin`, made of its ONNX form by OpenVINO's own converter."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from picoquant.backends.base import Exported, Found
from picoquant.backends.onnx.export import write_onnx_form
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.graph import Graph
from picoquant.backends.onnx.qdq import checked, make_onnx
from picoquant.backends.openvino.errors import reason
from picoquant.backends.openvino.hard_swish import make_whole_onnx
from picoquant.backends.openvino.kernels import drop_idle_rounding, gates_apart
from picoquant.backends.openvino.quiet import import_openvino
from picoquant.backends.source import Source
from picoquant.errors import ToolError
from picoquant.int8.network import Int8Network
from picoquant.targets.profiles import Target


def export(source: Source, out: Path, tool: Found, target: Target | None = None) -> Exported:
    """Write `.xml` and `.bin`, see `base.Export`; they are the same for every target.

    The INT8 model is made of the ONNX with Paddle's integers, without what only ONNX Runtime is faster with: OpenVINO
    runs it exactly, and plain QDQ not; hard-swishes stay whole (docs/openvino.md).

    Raises: `ToolError` with OpenVINO's word when it does not take the model.
    """
    openvino = import_openvino()
    paths = tuple(out.with_name(f"{out.name}{suffix}") for suffix in (".xml", ".bin"))
    with tempfile.TemporaryDirectory(prefix="picoquant-openvino-") as scratch:
        form = Path(scratch) / "model.onnx"
        if source.quantised:
            write_onnx(_int8_form(source.network), form)
        else:
            write_onnx_form(source, form)
        try:
            model = openvino.Core().read_model(form)
            _name_by_place(model)
            openvino.save_model(model, paths[0], compress_to_fp16=False)
        except Exception as error:  # OpenVINO's are RuntimeErrors and others
            raise ToolError(f"OpenVINO does not take {source.folder.model}: {reason(error)}") from error
    return Exported(paths, source.facts.inputs, source.facts.outputs, source)


def _int8_form(network: Int8Network) -> Any:
    """The ONNX model of which OpenVINO's converter makes the IR."""
    if any(op.op_type == "hard_swish" for op in network.graph.operators):
        return make_whole_onnx(network)
    graph = Graph(make_onnx(network, kernels=False))
    gates_apart(graph)
    drop_idle_rounding(graph)
    return checked(graph)


def _name_by_place(model: Any) -> None:
    """Name what OpenVINO has numbered, over all models of a process, by its place: the same file each time."""
    for index, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{node.get_type_name()}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_at_{index}")
