"""Tables of docs/backends.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results.cells import around, points
from benchmarks.results.record import Result
from benchmarks.results.table import Results, Table

_BACKENDS = (
    "paddle", "paddle_no_onednn", "onnx", "openvino", "ncnn", "mnn", "lite", "tflite", "tflite_no_xnnpack",
    "tflite_16x8",
)  # fmt: skip
_LEFT_OUT = {("coco465_xs", "paddle_no_onednn"), ("coco465_s", "paddle_no_onednn")}
_RUNS = {
    "bccd_s_npu": "PicoDet-S-NPU, bccd val, 87 images",
    "coco465_xs": "PicoDet-XS (LCNet), coco465, 465 images",
    "coco465_s": "PicoDet-S (ESNet), coco465, 465 images",
}
_NAMES = {
    (run, backend): f"backends_{run}_{backend}"
    for run in _RUNS
    for backend in _BACKENDS
    if (run, backend) not in _LEFT_OUT
}


def _backends(results: Results) -> list[Sequence[str]]:
    made = []
    for (run, backend), name in _NAMES.items():
        one = results[name]
        first = backend == _BACKENDS[0]
        made.append(
            [
                _RUNS[run] if first else "",
                f"`{one.runtime[0]}`",
                points(one.fp32),
                points(one.int8),
                around(one.difference, "+.4f"),
                around(one.fidelity, ".3f"),
                *_times(one),
            ]
        )
    return made


def _times(one: Result) -> list[str]:
    taken = one.latency if isinstance(one.latency, Mapping) else {}
    return [f"{taken[key]:.1f}" if key in taken else "" for key in ("fp32, ms", "int8, ms")]


TABLES = {
    "backends": Table(
        ("docs/backends.md",),
        (
            "model, images", "`--backend`", "FP32", "INT8", "INT8 less FP32, 95 % interval",
            "fidelity, 95 % interval", "FP32, ms", "INT8, ms",
        ),
        _backends, tuple(_NAMES.values()),
    ),
}  # fmt: skip
