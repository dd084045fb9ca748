"""Tables of docs/backends.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results.cells import around, points
from benchmarks.results.record import FOLDER, Result
from benchmarks.results.table import Results, Table

_BACKENDS = (
    "paddle", "paddle_no_onednn", "onnx", "openvino", "ncnn", "mnn", "lite", "tflite", "tflite_no_xnnpack",
    "tflite_16x8",
)  # fmt: skip
_RUNS = {
    "bccd_s_npu": "PicoDet-S-NPU, bccd val, 87 images",
    "coco465_xs": "PicoDet-XS (LCNet), coco465, 465 images",
    "coco465_s": "PicoDet-S (ESNet), coco465, 465 images",
}
_PREFIX = "backends_"


def _backends(results: Results) -> list[Sequence[str]]:
    """A row for each backend that was measured, in the order of docs/backends.md."""
    made = []
    for run, title in _RUNS.items():
        names = [f"{_PREFIX}{run}_{backend}" for backend in _BACKENDS]
        for one in (results[name] for name in names if name in results):
            cells = [
                points(one.fp32),
                points(one.int8),
                around(one.difference, "+.4f"),
                around(one.fidelity, ".3f"),
            ]
            made.append([title, f"`{one.runtime[0]}`", *cells, *_times(one)])
            title = ""
    return made


def _times(one: Result) -> list[str]:
    taken = one.latency if isinstance(one.latency, Mapping) else {}
    return [f"{taken[key]:.1f}" if key in taken else "" for key in ("fp32, ms", "int8, ms")]


_VENDORS = {
    "bccd_s_npu_ptq_onnx": "`onnx`",
    "bccd_s_npu_ptq_rknn": "`rknn`, rk3588",
    "bccd_s_npu_ptq_tpu_mlir": "`tpu-mlir`, cv181x",
    "bccd_s_npu_ptq_esp_ppq": "`esp-ppq`, esp32p4",
}


def _vendors(results: Results) -> list[Sequence[str]]:
    """A row for each vendor's simulator, beside ONNX Runtime."""
    ours = results["bccd_s_npu_ptq_onnx"].int8["mAP"]
    return [
        [
            title,
            points(one.fp32),
            points(one.int8),
            f"{one.int8['mAP'] - ours:+.4f}" if one.int8["mAP"] != ours else "0",
            around(one.difference, "+.4f"),
            around(one.fidelity, ".3f"),
            one.size["file"],
        ]
        for title, one in ((title, results[name]) for name, title in _VENDORS.items())
    ]


TABLES = {
    "backends": Table(
        ("docs/backends.md",),
        (
            "model, images", "`--backend`", "FP32", "INT8", "INT8 less FP32, 95 % interval",
            "fidelity, 95 % interval", "FP32, ms", "INT8, ms",
        ),
        _backends, tuple(path.stem for path in FOLDER.glob(f"{_PREFIX}*.yaml")),
    ),
    "vendors": Table(
        ("docs/backends.md",),
        (
            "backend", "FP32", "INT8", "- `onnx`", "INT8 less FP32, 95 % interval", "fidelity, 95 % interval",
            "file, MB",
        ),
        _vendors, tuple(_VENDORS),
    ),
}  # fmt: skip
