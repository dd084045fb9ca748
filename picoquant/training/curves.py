"""Plot a training: losses, learning rate and accuracy over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.storage.csv_log import read_rows
from picoquant.storage.files import whole_file

_NOT_LOSSES = ("step", "epoch", "lr", "images_per_second")
_ACCURACY = ("mAP", "AP50")
_SIZE = (9.0, 3.0)  # inches: width of the picture, height of a panel
_DPI = 110
_WINDOWS = 40  # the running mean of a loss spans 1 / 40 of the rows


def draw_curves(metrics_csv: Path, evaluations_csv: Path, out_png: Path) -> bool:
    """Plot the CSV files of a training; equal rows result in a file of equal bytes.

    Every loss is drawn twice: faintly as logged, strongly as a running mean.

    Args:
        metrics_csv: columns `step`, `epoch`, `lr`, `images_per_second` and losses, the sum in `loss`.
        evaluations_csv: columns `step`, `epoch` and metrics from 0 to 1; may be absent.
        out_png: the PNG file to write.

    Returns: False, and nothing is written, when `metrics_csv` holds no row.
    Raises: `UserError` when the disk cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps, evaluations = read_rows(metrics_csv), read_rows(evaluations_csv)
    if not steps:
        return False
    panels = [_draw_losses, _draw_rate] + [_draw_accuracy] * bool(evaluations)
    figure = Figure(figsize=(_SIZE[0], _SIZE[1] * len(panels)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for draw, axis in zip(panels, axes):
        draw(axis, evaluations if draw is _draw_accuracy else steps)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    with whole_file(out_png, "wb") as stream:
        figure.savefig(stream, format="png", metadata={"Software": None})
    return True


def running_mean(values: Sequence[float], window: int) -> np.ndarray:
    """For each value, the mean of it and of up to `window - 1` values before it; float64."""
    total = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
    ends = np.arange(1, len(total))
    starts = np.maximum(ends - window, 0)
    return (total[ends] - total[starts]) / (ends - starts)


def _line(axis: Any, x: Sequence[float], y: Sequence[float] | np.ndarray, **style: Any) -> None:
    """Draw a line; a single value is drawn as a dot, since a line would not show it."""
    axis.plot(x, y, marker="o" if len(x) == 1 else None, **style)


def _legend(axis: Any) -> None:
    """Put the legend above the panel, where it covers no curve."""
    position = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "frameon": False, "borderaxespad": 0.0}
    axis.legend(ncol=len(axis.get_legend_handles_labels()[1]), **position)


def _draw_losses(axis: Any, rows: Sequence[dict[str, float]]) -> None:
    names = sorted(set(rows[-1]) - set(_NOT_LOSSES), key=lambda name: (name != "loss", name))
    for index, name in enumerate(names):
        points = [(row["step"], row[name]) for row in rows if name in row]
        steps, values = zip(*points)
        style = {"color": f"C{index}", "linewidth": 2.0 if name == "loss" else 1.2}
        window = -(-len(values) // _WINDOWS)
        if window > 1:
            axis.plot(steps, values, color=style["color"], linewidth=0.5, alpha=0.35)
        _line(axis, steps, running_mean(values, window), label=name, **style)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("loss")
    _legend(axis)


def _draw_rate(axis: Any, rows: Sequence[dict[str, float]]) -> None:
    _line(axis, [row["step"] for row in rows], [row["lr"] for row in rows], color="C0")
    axis.set_ylim(bottom=0)
    axis.set_ylabel("learning rate")
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))


def _draw_accuracy(axis: Any, rows: Sequence[dict[str, float]]) -> None:
    for name in _ACCURACY:
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            steps, values = zip(*points)
            axis.plot(steps, values, label=name, marker="o", markersize=3)
    scored = [row for row in rows if "mAP" in row]
    if scored:
        best = max(scored, key=lambda row: row["mAP"])
        axis.set_title(
            f"best mAP {best['mAP']:.4f} after epoch {best['epoch']:.0f}", loc="right", fontsize="medium"
        )
    axis.set_ylim(bottom=0)
    axis.set_ylabel("accuracy")
    _legend(axis)
