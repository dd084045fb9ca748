"""Tables of docs/accuracy.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from benchmarks.results.cells import around, course, points
from benchmarks.results.table import Results, Table

_OFFICIAL = ("coco465_xs_ptq", "coco465_xs_ptq_per_tensor", "coco465_s_ptq", "coco465_s_ptq_per_tensor")


def _calibrated(names: Sequence[str], first: int = 0) -> Callable[[Results], list[Sequence[str]]]:
    """Rows of networks that were calibrated only, from the column `first` on."""

    def rows(results: Results) -> list[Sequence[str]]:
        made = [
            [
                one.model,
                one.scheme.removeprefix("PTQ, "),
                points(one.fp32),
                points(one.int8),
                around(one.difference, "+.4f"),
                around(one.fidelity, ".3f"),
            ]
            for one in (results[name] for name in names)
        ]
        return [row[first:] for row in made]

    return rows


_ZERO_POINTS = (
    "coco465_xs_ptq",
    "coco465_xs_ptq_zero_points",
    "coco465_xs_ptq_per_tensor",
    "coco465_xs_ptq_per_tensor_zero_points",
)


_TRAINED = (
    "coco465_xs_qat", "coco465_xs_qat_zero_points", "coco465_xs_qat_per_tensor", "coco465_s_qat",
    "coco465_s_qat_per_tensor", "bccd_s_npu_qat_levels", "bccd_s_npu_qat_levels_per_tensor",
)  # fmt: skip


def _trained(results: Results) -> list[Sequence[str]]:
    return [
        [
            f"{one.model}, {one.data['images']} images",
            one.scheme.removeprefix("QAT at ").replace(" of 8 images", ""),
            points(one.fp32),
            ", ".join(course(one, "mAP", ".4f")),
            around(one.difference, "+.4f"),
            ", ".join(filter(None, course(one, "fidelity", ".3f"))),
            around(one.fidelity, ".3f"),
        ]
        for one in (results[name] for name in _TRAINED)
    ]


_GOALS = {
    "goals_bccd_s_npu_ptq": "0.340",
    "goals_bccd_s_npu_qat": "0.340",
    "goals_tiny_coco_s_ptq": "0.30",
    "goals_tiny_coco_s_qat": "0.327",
}


def _goals(results: Results) -> list[Sequence[str]]:
    return [
        [
            f"{one.model}, {one.data['name']} ({one.data['images']} images), {one.data['input']} px",
            one.scheme,
            points(one.fp32),
            f"{points(one.int8)} / {one.every_tensor:.4f}",
            ", ".join(course(one, "mAP", ".4f")),
            wanted,
        ]
        for one, wanted in ((results[name], wanted) for name, wanted in _GOALS.items())
    ]


TABLES = {
    "official": Table(
        ("docs/accuracy.md",),
        ("network", "weights", "FP32", "INT8", "difference, 95 % interval", "fidelity, 95 % interval"),
        _calibrated(_OFFICIAL), _OFFICIAL,
    ),
    "zero_points": Table(
        ("docs/accuracy.md",),
        ("weights, activations", "FP32", "INT8", "difference, 95 % interval", "fidelity, 95 % interval"),
        _calibrated(_ZERO_POINTS, 1), _ZERO_POINTS,
    ),
    "trained": Table(
        ("docs/accuracy.md",),
        (
            "network, images evaluated", "QAT at", "FP32", "mAP from start to end",
            "INT8 less FP32, 95 % interval", "fidelity from start to end", "of INT8, 95 % interval",
        ),
        _trained, _TRAINED,
    ),
    "goals": Table(
        ("docs/accuracy.md",),
        (
            "network and images", "scheme", "FP32", "INT8 / every tensor", "QAT: start, 30 steps, 60 steps",
            "wanted of both",
        ),
        _goals, tuple(_GOALS),
    ),
}  # fmt: skip
