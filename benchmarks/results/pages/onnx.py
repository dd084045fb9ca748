"""Tables of docs/onnx.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.table import Results, Table

_ONNX = ("onnx_speed_fp32", "onnx_speed_picoquant", "onnx_speed_ort_quantiser")


def _onnx(results: Results) -> list[Sequence[str]]:
    return [
        [one.scheme, one.latency["clock"], one.latency["cpu"], one.size["file"]]
        for one in (results[name] for name in _ONNX)
    ]


TABLES = {
    "onnx_speed": Table(
        ("docs/onnx.md",), ("model", "times FP32 by the clock", "times FP32 by CPU seconds", "file, bytes"),
        _onnx, _ONNX,
    ),
}  # fmt: skip
