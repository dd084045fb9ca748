"""The `.tflite` of an INT8 model as Vela compiles it for an Ethos-U."""

from __future__ import annotations

from pathlib import Path

from picoquant.backends.base import Exported, Found
from picoquant.backends.ethos_u.vela import compile_model
from picoquant.backends.source import Source
from picoquant.backends.tflite.writer import make_tflite
from picoquant.errors import UserError
from picoquant.storage.files import whole_file
from picoquant.targets.profiles import Target


def export(source: Source, out: Path, tool: Found, target: Target | None = None) -> Exported:
    """Write what Vela makes of the model's `.tflite`, see `base.Export`.

    Raises: `ToolError` with Vela's word, or naming what TFLite cannot hold; `UserError` without a target.
    """
    if target is None:
        raise UserError("Vela compiles for a board: name one that has an Ethos-U")
    compiled = compile_model(make_tflite(source.network), target)
    path = out.with_name(f"{out.name}.tflite")
    with whole_file(path, "wb") as stream:
        stream.write(compiled.content)
    return Exported((path,), source=source)
