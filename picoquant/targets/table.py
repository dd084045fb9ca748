"""Targets as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from picoquant.targets.profiles import Target

_PUBLISHED = "picodet_relu6_int8_416"


def listing(targets: Sequence[Target]) -> str:
    """The most important facts of targets as a table, one line per target."""
    rows = [("target", "vendor", "CPU", "NPU INT8", "ABI", "PicoDet 416, published")]
    for target in targets:
        tops = f"{target.int8_tops:g} TOPS" if target.int8_tops else target.npu
        time = target.latency_ms.get(_PUBLISHED, {}).get("npu")
        published = f"{time:g} ms" if time else "-"
        rows.append((target.name, target.vendor, target.cpu, tops, target.abi, published))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def described(target: Target) -> str:
    """All values of a target's profile, one per line; nested ones are indented."""
    lines: list[str] = []
    for key, value in asdict(target).items():
        _describe(key, value, "", lines)
    return "\n".join(lines)


def _describe(key: str, value: object, indent: str, lines: list[str]) -> None:
    if isinstance(value, dict) and value:
        lines.append(f"{indent}{key}:")
        for below, part in value.items():
            _describe(str(below), part, indent + "  ", lines)
    elif isinstance(value, (list, tuple)):
        lines.append(f"{indent}{key}: {', '.join(map(str, value)) or '-'}")
    else:
        lines.append(f"{indent}{key}: {'-' if value in (None, '', {}) else value}")
