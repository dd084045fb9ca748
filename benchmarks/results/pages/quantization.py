"""Tables of docs/quantization.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.cells import points
from benchmarks.results.table import Results, Table

_ROUNDINGS = {
    "bccd_s_npu": "PicoDet-S-NPU, bccd, 320 px (FP32 {:.3f})",
    "tiny_coco_s": "PicoDet-S 320 (ESNet), tiny_coco (FP32 {:.3f})",
}


def _rounding(results: Results) -> list[Sequence[str]]:
    rows = []
    for name, title in _ROUNDINGS.items():
        for bits in (8, 4):
            two = [results[f"{name}_rounding_{bits}_{how}"] for how in ("nearest", "reconstructed")]
            maps = [f"{points(one.int8)} / {one.every_tensor:.4f}" for one in two]
            noise = [one.notes["signal to noise, dB"] for one in two]
            first = title.format(two[0].fp32["mAP"]) if bits == 8 else ""
            rows.append([first, f"{bits} bits", *maps, *noise])
    return rows


TABLES = {
    "rounding": Table(
        ("docs/quantization.md",),
        ("network", "weights", "nearest: mAP", "reconstructed: mAP", "nearest: dB", "reconstructed: dB"), _rounding,
        tuple(
            f"{name}_rounding_{bits}_{how}"
            for name in _ROUNDINGS for bits in (8, 4) for how in ("nearest", "reconstructed")
        ),
    ),
}  # fmt: skip
