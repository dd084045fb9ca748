"""Tables of docs/onnx.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.speed import Kernels
from benchmarks.results.table import Results, Table

_ONNX = ("onnx_speed_fp32", "onnx_speed_picoquant", "onnx_speed_ort_quantiser")


def _onnx(results: Results) -> list[Sequence[str]]:
    return [
        [one.scheme, one.latency["clock"], one.latency["cpu"], one.size["file"]]
        for one in (results[name] for name in _ONNX)
    ]


def _kernels(results: Results) -> list[Sequence[str]]:
    one = results.get("speed_kernels")
    if not isinstance(one, Kernels):
        return [["none recorded yet", *[""] * 8]]
    rows = []
    for name, network in one.networks.items():
        fp32, int8 = (network[key] for key in ("fp32", "int8"))
        whole, now = sum(fp32.values()), sum(int8.values())
        least = now - int8["dense"] + network["least"]
        kinds = [f"{1e3 * fp32[kind]:.2f}, {1e3 * int8[kind]:.2f}" for kind in int8]
        rows.append(
            [
                name.replace("_", "-").upper(), f"{1e3 * whole:.2f}, {1e3 * now:.2f}", *kinds,
                f"{1e3 * network['least']:.2f}", f"{whole / now:.2f}", f"{whole / least:.2f}",
            ]
        )  # fmt: skip
    return rows


TABLES = {
    "onnx_speed": Table(
        ("docs/onnx.md",), ("model", "times FP32 by the clock", "times FP32 by CPU seconds", "file, bytes"),
        _onnx, _ONNX,
    ),
    "onnx_kernels": Table(
        ("docs/onnx.md",),
        ("network, 416 px", "all kernels, ms: FP32, INT8", "dense convolutions", "depthwise", "of single values",
         "all else", "dense in INT8 at least, ms", "FP32 / INT8", "at most"),
        _kernels, (),
    ),
}  # fmt: skip
