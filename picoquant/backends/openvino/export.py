"""OpenVINO's IR of a model: `.xml` and `.bin`, made of its ONNX form by OpenVINO's own converter."""

from __future__ import annotations

import tempfile
from pathlib import Path

from picoquant.backends.base import Exported, Found
from picoquant.backends.onnx.export import write_onnx_form
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.openvino.errors import reason
from picoquant.backends.source import Source
from picoquant.errors import ToolError
from picoquant.targets.profiles import Target


def export(source: Source, out: Path, tool: Found, target: Target | None = None) -> Exported:
    """Write `.xml` and `.bin`, see `base.Export`; they are the same for every target.

    The INT8 model is made of the ONNX with Paddle's integers, without what only ONNX Runtime is faster with: OpenVINO
    runs it exactly, and plain QDQ not (docs/openvino.md).

    Raises: `ToolError` with OpenVINO's word when it does not take the model.
    """
    import openvino

    paths = tuple(out.with_name(f"{out.name}{suffix}") for suffix in (".xml", ".bin"))
    with tempfile.TemporaryDirectory(prefix="picoquant-openvino-") as scratch:
        form = Path(scratch) / "model.onnx"
        if source.quantised:
            write_onnx(make_onnx(source.network, kernels=False), form)
        else:
            write_onnx_form(source, form)
        try:
            model = openvino.Core().read_model(form)
            openvino.save_model(model, paths[0], compress_to_fp16=False)
        except Exception as error:  # OpenVINO's are RuntimeErrors and others
            raise ToolError(f"OpenVINO does not take {source.folder.model}: {reason(error)}") from error
    return Exported(paths, source.facts.inputs, source.facts.outputs, source)
