"""Rows of a report, read from the stages in run.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from picoquant.report.contents import SizeRow, StageRow

_TIME = "%Y-%m-%dT%H:%M:%S%z"
_PACKAGED = (".nb", ".onnx")


def stage_rows(records: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> list[StageRow]:
    """One row for each stage, including those that were not run.

    Args:
        records: the stages of run.json, by name.
        order: names of all stages, in order.
    """
    total = sum(record.get("seconds", 0.0) for record in records.values()) or 1.0
    rows = []
    for name in order:
        record = records.get(name, {})
        seconds = record.get("seconds")
        rows.append(
            StageRow(
                name=name,
                status=str(record.get("status", "not run")),
                started=str(record.get("started", "")),
                seconds=seconds,
                share=(seconds or 0.0) / total,
                idle=idle_share(record),
                command=str(record.get("command", "")),
                note=str(record.get("reason") or record.get("error") or ""),
            )
        )
    return rows


def idle_share(record: Mapping[str, Any]) -> float | None:
    """The part of the processors' time in which a stage did not compute, 0 to 1; None where nothing was recorded.

    Processes that the stage started and that have not ended count as idle.

    Args:
        record: the stage in run.json.
    """
    available = record.get("seconds", 0.0) * record.get("cpus", 0)
    return max(0.0, 1 - record["cpu_seconds"] / available) if available and "cpu_seconds" in record else None


def finished(record: Mapping[str, Any]) -> float | None:
    """When a stage finished, seconds since 1970; None if it has not.

    Args:
        record: the stage in run.json.
    """
    if record.get("status") != "done" or "started" not in record:
        return None
    return datetime.strptime(record["started"], _TIME).timestamp() + record.get("seconds", 0.0)


def size_rows(records: Mapping[str, Mapping[str, Any]]) -> list[SizeRow]:
    """Sizes of the models that the finished stages wrote.

    Args:
        records: the stages of run.json, by name.
    """
    rows = []
    for stage, what in (
        ("export", "FP32, Paddle"),
        ("quantize", "INT8, Paddle, weights still stored as float"),
    ):
        files = records.get(stage, {}).get("files", {})
        size = sum(entry["bytes"] for name, entry in files.items() if name.startswith("model."))
        if size:
            rows.append(SizeRow(f"{stage}/", what, size))
    for name, entry in records.get("package", {}).get("files", {}).items():
        if name.endswith(_PACKAGED) and "/sample/" not in name:
            what = "Paddle Lite, for the board" if name.endswith(".nb") else "ONNX"
            rows.append(SizeRow(f"package/{name}", what, entry["bytes"]))
        elif name.endswith(".tar.gz"):
            rows.append(SizeRow(f"package/{name}", "the whole package, compressed", entry["bytes"]))
    return rows


def stale_evaluation(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The models, `fp32` or `int8`, that were replaced after the evaluation.

    Args:
        records: the stages of run.json, by name.
    """
    evaluated = records.get("evaluate", {}).get("settings", {}).get("models", {})
    stale = []
    for name, stage in (("fp32", "export"), ("int8", "quantize")):
        files = records.get(stage, {}).get("files", {})
        current = files.get("model.pdiparams", {}).get("sha256")
        if current and evaluated and evaluated.get(name, {}).get("params") != current:
            stale.append(name)
    return stale
