"""Tables of docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from benchmarks.results.cells import points
from benchmarks.results.record import Result
from benchmarks.results.table import Results, Table


def _runtimes(
    names: Sequence[str], metrics: Sequence[str], interval: bool
) -> Callable[[Results], list[Sequence[str]]]:
    def rows(results: Results) -> list[Sequence[str]]:
        found = [results[name] for name in names]
        base = next(one.fp32["mAP"] for one in found if "paddle" in one.runtime and not one.int8)
        return [_of_runtime(one, metrics, base, interval) for one in found]

    return rows


def _of_runtime(one: Result, metrics: Sequence[str], base: float, interval: bool) -> list[str]:
    kind, found = ("int8", one.int8) if one.int8 else ("fp32", one.fp32)
    title = ", ".join(f"`{runtime}_{kind}`" for runtime in one.runtime)
    title += " (weights only)" if "weights only" in one.scheme else ""
    pair = one.difference
    less = pair.value if pair else found["mAP"] - base
    cells = [title, *(points(found, name) for name in metrics), f"{less:+.4f}" if less else "0"]
    if interval:
        cells.append(f"{pair.low:+.4f} to {pair.high:+.4f}" if pair and pair.low is not None else "")
    return cells


_BCCD = ("bccd_s_npu_fp32_dygraph", "bccd_s_npu_fp32", "bccd_s_npu_qat_rv1126", "bccd_s_npu_qat_lite")
_TINY_COCO = (
    "tiny_coco_s_fp32", "tiny_coco_s_ptq_paddle", "tiny_coco_s_ptq_onnx", "tiny_coco_s_ptq_lite",
    "tiny_coco_s_ptq_rv1126",
)  # fmt: skip


TABLES = {
    "bccd": Table(
        ("docs/evaluation.md",),
        ("row", "mAP", "AP50", "AP75", "medium", "large", "- FP32", "95 % interval of the pair"),
        _runtimes(_BCCD, ("mAP", "AP50", "AP75", "medium", "large"), True), _BCCD,
    ),
    "tiny_coco": Table(
        ("docs/evaluation.md",),
        ("row", "mAP", "AP50", "AP75", "small", "medium", "large", "- FP32"),
        _runtimes(_TINY_COCO, ("mAP", "AP50", "AP75", "small", "medium", "large"), False), _TINY_COCO,
    ),
}  # fmt: skip
