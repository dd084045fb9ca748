"""The `.tflite` of an INT8 model."""

from __future__ import annotations

from pathlib import Path

from picoquant.backends.base import Exported, Found
from picoquant.backends.source import Source
from picoquant.backends.tflite.writer import make_tflite
from picoquant.storage.files import whole_file
from picoquant.targets.profiles import Target

NOTE = "activations of 16 bits, weights of 8"


def export(
    source: Source, out: Path, tool: Found, target: Target | None = None, activation_bits: int = 8
) -> Exported:
    """Write a full-integer `.tflite`, see `base.Export`; it is the same for every target.

    Args:
        source, out, tool, target: see `base.Export`.
        activation_bits: 8, or 16 with weights of 8 bits (16x8).

    Raises: `ToolError` naming what TFLite cannot hold.
    """
    content = make_tflite(source.network, activation_bits)
    path = out.with_name(f"{out.name}.tflite")
    with whole_file(path, "wb") as stream:
        stream.write(content)
    return Exported((path,), source=source, note="" if activation_bits == 8 else NOTE)
