"""Tables of README.md and README_cn.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

from benchmarks.results.cells import points
from benchmarks.results.table import Results, Table


def _measured(language: str) -> Callable[[Results], list[Sequence[str]]]:
    none, simulated, time = {
        "en": ("not taken", "{}; in rv1126's integers (simulated): {}", "{}, {}"),
        "zh": ("未计时", "{}；按 rv1126 的整数运算（仿真）：{}", "{}（{}）"),
    }[language]

    def rows(results: Results) -> list[Sequence[str]]:
        made = []
        for one in (results[name] for name in _MEASURED):
            label, int8 = one.labels[language], points(one.int8)
            if one.name in _SIMULATED:
                int8 = simulated.format(int8, points(results[_SIMULATED[one.name]].int8))
            taken = isinstance(one.latency, Mapping)
            last = time.format(one.latency["whole run"], label["time"]) if taken else none
            made.append([label["run"], points(one.fp32), int8, last])
        return made

    return rows


_MEASURED = ("bccd_s_npu_qat", "quickstart", "tiny_coco_s_ptq_paddle")
_SIMULATED = {"tiny_coco_s_ptq_paddle": "tiny_coco_s_ptq_rv1126"}


TABLES = {
    "measured": Table(
        ("README.md",), ("run", "FP32 mAP", "INT8 mAP", "whole run"), _measured("en"),
        (*_MEASURED, *_SIMULATED.values()),
    ),
    "measured_zh": Table(
        ("README_cn.md",), ("运行", "FP32 mAP", "INT8 mAP", "全程耗时"), _measured("zh"),
        (*_MEASURED, *_SIMULATED.values()),
    ),
}  # fmt: skip
