"""Tables of docs/training.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.results.cells import around, course, points
from benchmarks.results.table import Results, Table

_SCRATCH = "bccd_s_npu_from_scratch"
_EVERY = 6  # epochs between two states of its course


def _scratch(results: Results) -> list[Sequence[str]]:
    return [["mAP", *course(results[_SCRATCH], "mAP", ".4f")]]


_INSTRUCTIONS = {"vnni": "AVX512-VNNI", "avx2": "AVX2"}
_QUICKSTARTS = {
    (instructions, threads): [f"quickstart_{instructions}_{threads}_seed_{seed}" for seed in range(8)]
    for instructions in _INSTRUCTIONS
    for threads in (2, 1)
}


def _matrix(results: Results) -> list[Sequence[str]]:
    made = []
    for (instructions, threads), names in _QUICKSTARTS.items():
        found = [results[name] for name in names]
        pairs = [f"{points(one.fp32)} / {points(one.int8)}" for one in found]
        made.append([_INSTRUCTIONS[instructions], str(threads), *pairs])
    return made


_SEEDS = range(4)
_NUMBERS = {"floats": "32-bit floats", "bfloat16": "bfloat16"}
_TRAINED = tuple(f"training_{network}_{numbers}" for network in ("xs", "s_npu") for numbers in _NUMBERS)


def _bfloat16(results: Results) -> list[Sequence[str]]:
    made = []
    for name in _TRAINED:
        found = results[name]
        mean = statistics.mean(one["mAP"] for one in found.course)
        numbers = _NUMBERS[name.rsplit("_", 1)[1]]
        seeds = course(found, "mAP", ".4f")
        made.append([found.model, numbers, *seeds, f"{mean:.4f}", around(found.difference, "+.4f")])
    return made


TABLES = {
    "scratch": Table(
        ("docs/training.md",), ("epoch", *(str(_EVERY * n) for n in range(1, 11))), _scratch, (_SCRATCH,)
    ),
    "matrix": Table(
        ("docs/training.md",), ("instructions", "threads", *(f"seed {seed}" for seed in range(8))), _matrix,
        tuple(name for names in _QUICKSTARTS.values() for name in names),
    ),
    "bfloat16": Table(
        ("docs/training.md",),
        ("network", "numbers", *(f"seed {seed}" for seed in _SEEDS), "mean", "difference, its 95 % interval"),
        _bfloat16, _TRAINED,
    ),
}  # fmt: skip
