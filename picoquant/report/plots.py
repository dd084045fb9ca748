"""The plots of a report: precision and recall, AP by class, trainings, layers; each an `<svg>` element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from picoquant.evaluation.precision_recall import PrecisionRecall
from picoquant.report.figures import FP32, GRID, INK, INT8, SERIES, figure_svg
from picoquant.training.curves import running_mean

_COLOURS = {"fp32": FP32, "int8": INT8}
_LONGEST = 18  # letters of a class name on an axis
_WIDE = 30  # the axis is logarithmic if the largest range is more than so many times the smallest
_WINDOWS = 40  # the window of a running mean is this fraction (1 / 40) of the training


def precision_recall_plot(models: Mapping[str, PrecisionRecall], iou: float, index: int | None = None) -> str:
    """Precision over recall of each model.

    Args:
        models: curves by `fp32` and `int8`.
        iou: IoU threshold.
        index: index of a class; None for the mean over all classes.
    """

    def draw(axes: Any) -> None:
        for name, found in models.items():
            axes.plot(found.recalls, found.curve(iou, index), color=_COLOURS[name], label=name.upper())
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        _legend(axes)

    which = "mean" if index is None else f"class-{index}"
    return figure_svg(f"pr-{which}-{round(iou * 100)}", f"precision over recall at IoU {iou:g}", draw)


def class_ap_plot(classes: Sequence[str], models: Mapping[str, Sequence[float]]) -> str:
    """AP of each class: one line per class with one dot per model, the first class at the top."""
    rows = np.arange(len(classes))[::-1]

    def draw(axes: Any) -> None:
        values = list(models.values())
        if len(values) == 2:
            axes.hlines(rows, *values, color=GRID, linewidth=3)
        for name, mark, size in zip(models, "os", (9, 5)):  # of two sizes: both are visible if they overlap
            axes.plot(models[name], rows, mark, color=_COLOURS[name], label=name.upper(), markersize=size)
        axes.set_yticks(rows, [_short(name) for name in classes])
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set(xlim=(0, 1), ylim=(-0.6, len(classes) - 0.4), xlabel="AP")
        _legend(axes)

    return figure_svg("class-ap", "AP of each class in FP32 and INT8", draw, 1.2 + 0.24 * len(classes))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def losses_plot(name: str, rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> str:
    """Losses over the training steps: the values as thin lines, their running mean as strong ones."""

    def draw(axes: Any) -> None:
        for column, colour in zip(columns, SERIES):
            points = [(row["step"], row[column]) for row in rows if column in row]
            if not points:
                continue
            steps, values = zip(*points)
            window = -(-len(values) // _WINDOWS)
            if window > 1:
                axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.4)
            mark = "o" if len(values) == 1 else None
            axes.plot(steps, running_mean(values, window), marker=mark, color=colour, label=column)
        axes.set(xlabel="step", ylabel="loss")
        axes.set_ylim(bottom=0)
        if len(columns) > 1:
            _legend(axes)

    return figure_svg(name, "loss over the steps", draw)


def accuracy_plot(
    name: str,
    rows: Sequence[Mapping[str, float]],
    columns: Sequence[str],
    fp32: float | None = None,
) -> str:
    """Accuracy at the steps where it was evaluated.

    With `fp32`, the mAP of the FP32 model, the first column is drawn as that of INT8 and FP32 as a horizontal
    line.
    """

    def draw(axes: Any) -> None:
        for column, colour in zip(columns, SERIES if fp32 is None else (INT8,)):
            points = [(row["step"], row[column]) for row in rows if column in row]
            if points:
                axes.plot(*zip(*points), "o-", color=colour, label=column, markersize=4)
        if fp32 is not None:
            axes.axhline(fp32, color=FP32, linewidth=1.2, linestyle="--", label="FP32")
        axes.set(xlabel="step", ylabel="accuracy")
        _legend(axes)

    return figure_svg(name, "accuracy over the steps", draw)


def layers_plot(layers: Sequence[Mapping[str, Any]]) -> str:
    """Signal-to-noise ratio (dB) by layer, first to last: with this layer alone, and with all, in INT8."""
    ordered = sorted(layers, key=lambda layer: layer["index"])

    def draw(axes: Any) -> None:
        x = [layer["index"] for layer in ordered]
        axes.bar(x, _numbers(ordered, "alone_db"), color=FP32, width=0.9, label="layer alone")
        axes.plot(x, _numbers(ordered, "built_up_db"), color=INT8, label="built up, all in INT8")
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="layer, first to last", ylabel="signal-to-noise, dB", xlim=(-1, len(x)))
        _legend(axes)

    return figure_svg("layers-snr", "signal-to-noise of each layer, first to last", draw)


def ranges_plot(ranges: Sequence[float], absmax: Sequence[float | None] | None = None) -> str:
    """INT8 range of each activation, first to last; logarithmic if the ranges differ much.

    Args:
        ranges: the largest absolute value that INT8 represents.
        absmax: the observed largest absolute value of each; None for unknown ones.
    """

    def draw(axes: Any) -> None:
        x = np.arange(len(ranges))
        axes.step(x, ranges, color=INT8, where="mid", label="range in INT8")
        if absmax is not None:
            observed = [np.nan if value is None else value for value in absmax]
            axes.plot(x, observed, ".", color=FP32, markersize=4, label="largest value seen")
            _legend(axes)
        if max(ranges) > _WIDE * min(ranges):
            axes.set_yscale("log")
            axes.minorticks_off()
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # as text, not as a formula
        else:
            axes.set_ylim(bottom=0)
        axes.set(xlabel="first to last", ylabel="largest absolute value", xlim=(-1, len(x)))

    return figure_svg("ranges", "ranges of the activations, first to last", draw)


def _legend(axes: Any) -> None:
    """A legend above the axes, where it hides no data."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        ncols=4,
        columnspacing=1.2,
        handlelength=1.2,
    )


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [np.nan if row[key] is None else row[key] for row in rows]
