"""Tables of docs/npu.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.cells import points
from benchmarks.results.table import Results, Table

_OUTPUTS = {f"bccd_s_npu_outputs_{name}": name for name in ("logits", "product", "score")}


def _outputs(results: Results) -> list[Sequence[str]]:
    return [
        [title, points(results[name].fp32), points(results[name].int8)] for name, title in _OUTPUTS.items()
    ]


_INSIDE = {
    "bccd10_s_npu_raw": "`raw`",
    "bccd10_s_npu_boxes": "`boxes` (input pixels)",
    "bccd10_s_npu_detections": "`detections` (image pixels, NMS)",
}
_SPLIT = "on RV1126, as opt splits it"


def _inside(results: Results) -> list[Sequence[str]]:
    found = [(title, results[name]) for name, title in _INSIDE.items()]
    return [[title, points(one.int8), f"{one.every_tensor:.4f}", one.notes[_SPLIT]] for title, one in found]


_SCALES = ("bccd_s_npu_ptq", "coco465_xs_ptq")


def _scales(results: Results) -> list[Sequence[str]]:
    rows = []
    for name in _SCALES:
        channel, tensor = (results[f"{name}_{kind}"] for kind in ("channel", "tensor"))
        title = f"{channel.model}, {channel.data['name'].replace('BCCD', 'bccd')} ({channel.data['images']})"
        rows.append([title, points(channel.fp32), points(channel.int8), points(tensor.int8)])
    return rows


TABLES = {
    "outputs": Table(("docs/npu.md",), ("output", "FP32", "outputs rounded to INT8"), _outputs, tuple(_OUTPUTS)),
    "inside": Table(
        ("docs/npu.md",), ("export", "INT8 in integer runtimes", "every tensor in INT8", _SPLIT), _inside,
        tuple(_INSIDE),
    ),
    "scales": Table(
        ("docs/npu.md",), ("network, images", "FP32", "a scale for each channel", "one scale a tensor"), _scales,
        tuple(f"{name}_{kind}" for name in _SCALES for kind in ("channel", "tensor")),
    ),
}  # fmt: skip
