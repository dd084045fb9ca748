"""Cells of tables: figures as the documentation shows them."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.results.record import Interval, Result


def points(metrics: Mapping[str, float], name: str = "mAP") -> str:
    """A metric of four digits; empty where it was not measured."""
    return f"{metrics[name]:.4f}" if name in metrics else ""


def around(found: Interval | None, form: str) -> str:
    """A figure and its 95 % interval."""
    if found is None:
        return ""
    value = format(found.value, form)
    return value if found.low is None else f"{value}, {found.low:{form}} to {found.high:{form}}"


def course(result: Result, name: str, form: str) -> list[str]:
    """A figure of each state of a training."""
    return [format(state[name], form) if name in state else "" for state in result.course]
