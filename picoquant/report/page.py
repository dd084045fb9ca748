"""Renders a `Report` with the HTML template, which escapes everything that comes from a file or a user."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from picoquant.evaluation.confusion import Confusion
from picoquant.report import plots
from picoquant.report.contents import Detections, Layers, Report, Training
from picoquant.utils.progress import duration

_MATRIX = 20  # classes in a confusion matrix; with more, the most frequent confusions are listed
_LISTED = 20
_CLASSES = 30  # classes in the plot of APs
_CURVES = 9  # classes with curves of their own
_WORST_LAYERS = 10
_METRICS = {
    "mAP": "mAP, IoU 0.5 to 0.95", "AP50": "AP, IoU 0.5", "AP75": "AP, IoU 0.75", "APs": "AP, small objects",
    "APm": "AP, medium objects", "APl": "AP, large objects", "AR1": "recall, 1 detection an image",
    "AR10": "recall, 10 detections", "AR100": "recall, 100 detections", "ARs": "recall, small objects",
    "ARm": "recall, medium objects", "ARl": "recall, large objects",
}  # fmt: skip


def render(report: Report) -> str:
    """The report as the text of an HTML page."""
    environment = Environment(
        loader=PackageLoader("picoquant.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=_score, change=_change, size=_size, duration=duration, number=_number, percent=_percent
    )
    page = environment.get_template("report.html")
    return page.render(
        report=report,
        metric_rows=_metric_rows(report.metrics),
        pictures={name: Markup(svg) for name, svg in _plots(report).items()},
        class_curves=_class_curves(report.detections),
        classes=_class_rows(report.detections),
        matrix_limit=_MATRIX,
        class_limit=_CLASSES,
        confusions=_frequent(report.detections),
        worst_layers=_worst_layers(report.layers),
        boards=[(board, Markup(board.picture)) for board in report.boards],
    )


def _score(value: float | None) -> str:
    """A score of 0 to 1 with four digits; a dash if it is undefined, for which pycocotools returns -1."""
    return "–" if value is None or math.isnan(value) or value < 0 else f"{value:.4f}"


def _change(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:+.4f}".replace("-", "−")
    return "0.0000" if text[1:] == "0.0000" else text


def _size(size: float) -> str:
    return f"{size / 1e6:.2f} MB"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _metric_rows(metrics: Mapping[str, Mapping[str, float]]) -> list[tuple[str, list[float], float | None]]:
    rows = []
    for key, title in _METRICS.items():
        values = [found[key] for found in metrics.values()]
        known = len(values) == 2 and min(values) >= 0
        rows.append((title, values, values[1] - values[0] if known else None))
    return rows


def _plots(report: Report) -> dict[str, str]:
    """The plots of all parts that the report has, by name."""
    figures = {}
    if report.detections:
        curves = report.detections.curves
        figures["pr_50"] = plots.precision_recall_plot(curves, 0.5)
        figures["pr_75"] = plots.precision_recall_plot(curves, 0.75)
        rows = [row for row in _class_rows(report.detections) if row["objects"]]
        shown = sorted(rows, key=lambda row: -abs(row["change"] or 0.0))[:_CLASSES]
        shown = [row for row in rows if row in shown]
        if shown:
            values = {name: [row["ap"][name] for row in shown] for name in curves}
            figures["class_ap"] = plots.class_ap_plot([row["name"] for row in shown], values)
    if report.training:
        figures |= _training_plots("training", report.training, ("mAP", "AP50"))
    if report.qat:
        fp32 = report.metrics.get("fp32")
        figures |= _training_plots("qat", report.qat, ("mAP",), fp32["mAP"] if fp32 else None)
    if report.layers and report.layers.analysis:
        figures["layers"] = plots.layers_plot(report.layers.analysis["layers"])
        tensors = [row for row in report.layers.analysis["tensors"] if row["range_high"]]
        if tensors:
            highs = [max(abs(row["range_high"]), abs(row["range_low"] or 0.0)) for row in tensors]
            figures["ranges"] = plots.ranges_plot(highs, [row["largest"] for row in tensors])
    elif report.layers and report.layers.ranges:
        figures["ranges"] = plots.ranges_plot(report.layers.ranges)
    return figures


def _training_plots(
    name: str, training: Training, columns: tuple[str, ...], fp32: float | None = None
) -> dict[str, str]:
    figures = {f"{name}_loss": plots.losses_plot(f"{name}-loss", training.steps, training.losses)}
    if training.evaluations:
        figures[f"{name}_accuracy"] = plots.accuracy_plot(
            f"{name}-accuracy", training.evaluations, columns, fp32
        )
    return figures


def _class_rows(detections: Detections | None) -> list[dict[str, Any]]:
    """For each class its name, number of objects, AP and AP50 by model, and the change of AP."""
    if detections is None:
        return []
    first = next(iter(detections.curves.values()))
    whole = {name: found.ap() for name, found in detections.curves.items()}
    half = {name: found.ap(0.5) for name, found in detections.curves.items()}
    rows = []
    for index, (name, objects) in enumerate(zip(first.classes, first.objects)):
        ap = {model: float(values[index]) for model, values in whole.items()}
        both = len(ap) == 2 and objects > 0
        rows.append(
            {
                "index": index,
                "name": name,
                "objects": objects,
                "ap": ap,
                "ap50": {model: float(values[index]) for model, values in half.items()},
                "change": ap["int8"] - ap["fp32"] if both else None,
            }
        )
    return rows


def _class_curves(detections: Detections | None) -> list[tuple[str, Markup]]:
    """Name and precision-recall plot of the classes whose AP changed most, in the order of the classes."""
    if detections is None:
        return []
    rows = [row for row in _class_rows(detections) if row["objects"]]
    shown = sorted(rows, key=lambda row: -abs(row["change"] or 0.0))[:_CURVES]
    return [
        (row["name"], Markup(plots.precision_recall_plot(detections.curves, 0.5, row["index"])))
        for row in rows
        if row in shown and len(rows) > 1
    ]


def _frequent(detections: Detections | None) -> list[tuple[str, str, list[int]]]:
    """The most frequent confusions: annotated class, detected class, and its count for each model."""
    if detections is None:
        return []
    confusions: list[Confusion] = list(detections.confusions.values())
    names = confusions[0].classes
    off = [np.where(np.eye(len(found.counts), dtype=bool), 0, found.counts) for found in confusions]
    most = np.max(off, axis=0)
    inside = np.zeros(most.shape, bool)
    # Confusions of two classes are listed separately: missed and false detections are far more frequent.
    inside[:-1, :-1] = True
    shown = np.zeros(most.size, bool)
    for part in (inside, ~inside):
        shown[np.argsort(-np.where(part, most, 0), axis=None, kind="stable")[: _LISTED // 2]] = True
    order = [index for index in np.argsort(-most, axis=None, kind="stable") if shown[index]]
    return [
        (
            names[row] if row < len(names) else "nothing",
            names[column] if column < len(names) else "nothing",
            [int(found[row, column]) for found in off],
        )
        for row, column in zip(*np.unravel_index(order, most.shape))
        if most[row, column]
    ]


def _worst_layers(layers: Layers | None) -> list[Mapping[str, Any]]:
    return layers.analysis["layers"][:_WORST_LAYERS] if layers and layers.analysis else []
