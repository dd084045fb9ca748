"""Tables of docs/training.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.cells import course, points
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


TABLES = {
    "scratch": Table(
        ("docs/training.md",), ("epoch", *(str(_EVERY * n) for n in range(1, 11))), _scratch, (_SCRATCH,)
    ),
    "matrix": Table(
        ("docs/training.md",), ("instructions", "threads", *(f"seed {seed}" for seed in range(8))), _matrix,
        tuple(name for names in _QUICKSTARTS.values() for name in names),
    ),
}  # fmt: skip
