"""Targets as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from picoquant.targets.profiles import Target

ANY = "any"  # in place of a vendor
_PUBLISHED = "picodet_relu6_int8_416"


def listing(targets: Sequence[Target]) -> str:
    """The most important facts of targets as a table, grouped by vendor, in the order of the targets.

    Those of any vendor come last.
    """
    head = ("target", "CPU", "NPU INT8", "ABI", "PicoDet 416, published", "run here")
    groups: dict[str, list[Target]] = {}
    for target in sorted(targets, key=lambda target: (target.vendor == ANY, target.vendor.lower())):
        groups.setdefault(target.vendor, []).append(target)
    rows = {vendor: [_row(target) for target in group] for vendor, group in groups.items()}
    every = [head, *(row for group in rows.values() for row in group)]
    widths = [max(len(row[column]) for row in every) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  " + "  ".join(map(str.ljust, row, widths)).rstrip()

    lines = [line(head)]
    for vendor, group in rows.items():
        lines += ["any vendor" if vendor == ANY else vendor, *map(line, group)]
    return "\n".join(lines)


def _row(target: Target) -> tuple[str, ...]:
    tops = f"{target.int8_tops:g} TOPS" if target.int8_tops else target.npu
    time = target.latency_ms.get(_PUBLISHED, {}).get("npu")
    published = f"{time:g} ms" if time else "-"
    return target.name, target.cpu, tops, target.abi, published, target.tried or "nothing"


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
