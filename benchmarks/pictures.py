"""Bars of seconds, for the profiles in the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_MOST = 9  # groups with a colour of their own
OTHERS = "others"


def stacked(rows: Mapping[str, Mapping[str, float]], label: str, out: Path) -> None:
    """A bar for each row, in parts; the parts are the same of all rows, the largest of all first.

    Args:
        rows: title -> part -> its length.
        label: of the axis, with the unit.
        out: a PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.4 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    left = [0.0] * len(rows)
    for place, (part, values) in enumerate(by_part(rows).items()):
        axes.barh(list(rows), values, left=left, label=part, color=f"C{place}")
        left = [start + value for start, value in zip(left, values)]
    axes.set_xlabel(label)
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    FigureCanvasAgg(figure).print_png(str(out))


def by_part(rows: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """Part -> its length in each row, the largest of all rows together first; of many the smallest are `OTHERS`."""
    parts = {part: [found.get(part, 0.0) for found in rows.values()] for one in rows.values() for part in one}
    ordered = sorted(parts.items(), key=lambda item: -sum(item[1]))
    shown = dict(ordered if len(ordered) <= _MOST else ordered[: _MOST - 1])
    rest = [values for part, values in ordered if part not in shown]
    return {**shown, OTHERS: [sum(values) for values in zip(*rest)]} if rest else shown


def bars(values: Mapping[str, float], label: str, out: Path) -> None:
    """A bar for each value, with its number.

    Args:
        values: title -> length.
        label: of the axis, with the unit.
        out: a PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.8 + 0.25 * len(values)), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.barh(list(values), list(values.values()))
    axes.bar_label(drawn, fmt="%.1f", padding=3, fontsize="small")
    axes.set_xlabel(label)
    axes.invert_yaxis()
    FigureCanvasAgg(figure).print_png(str(out))
