"""An analysis as text, CSV and JSON. Signal-to-noise is in dB; empty or null: no error, or not known."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from picoquant.quantization.analysis.analyse import Analysis, LayerCost, TensorCost
from picoquant.quantization.analysis.noise import plain
from picoquant.quantization.analysis.variants import FORMS
from picoquant.quantization.score import Score
from picoquant.storage.files import whole_file, write_json, write_text

CSV, JSON = "analysis.csv", "analysis.json"
TENSORS = "tensors.csv"


def as_dict(analysis: Analysis) -> dict[str, Any]:
    """The analysis for JSON; layers most expensive first, tensors in the order they are computed."""
    tensors = {tensor.name: tensor for tensor in analysis.tensors}
    return {
        "model": analysis.kind,
        "reference": analysis.reference,
        "images": analysis.images,
        "outputs_snr_db": {name: plain(value) for name, value in analysis.outputs.items()},
        "mAP": dict(analysis.accuracy) if analysis.accuracy else None,
        "layers": [_layer(cost, tensors.get(cost.layer.output)) for cost in analysis.worst_first()],
        "tensors": [_tensor(tensor) for tensor in analysis.tensors],
    }


def _layer(cost: LayerCost, result: TensorCost | None) -> dict[str, Any]:
    layer = cost.layer
    row: dict[str, Any] = {
        "index": layer.index,
        "layer": layer.name,
        "type": layer.operator.op_type,
        "weight_shape": list(layer.weight_shape),
        "follows": list(layer.follows),
        "output": layer.output,
        "alone_db": plain(cost.worst()),
        "weights_alone_db": plain(cost.worst("weights")),
        "activations_alone_db": plain(cost.worst("activations")),
        "built_up_db": plain(cost.built_up),
        "mAP_alone": cost.score_alone.mAP if cost.score_alone else None,
        "fidelity_alone": cost.score_alone.fidelity if cost.score_alone else None,
        "largest": None if result is None else result.values.absmax,
        "outliers": None if result is None else plain(result.values.outliers),
        "channel_spread": None if result is None else plain(result.values.channel_spread),
        "saturated": None if result is None else result.saturated,
    }
    for form in FORMS:
        for quantity, value in cost.alone[form].items():
            row[f"{form}.{quantity}_db"] = plain(value)
    return row


def _tensor(tensor: TensorCost) -> dict[str, Any]:
    values = tensor.values
    return {
        "tensor": tensor.name,
        "made_by": tensor.made_by,
        "range_low": tensor.limits.lowest if tensor.limits else None,
        "range_high": tensor.limits.highest if tensor.limits else None,
        "low": values.low,
        "high": values.high,
        "largest": values.absmax,
        **{f"percentile_{percent:g}": value for percent, value in values.percentiles.items()},
        "outliers": plain(values.outliers),
        "channel_spread": plain(values.channel_spread),
        "saturated": tensor.saturated,
        "rounding_db": plain(tensor.rounding),
        "built_up_db": plain(tensor.built_up),
    }


def text_table(analysis: Analysis, top: int) -> str:
    """The most expensive layers, and the whole network, as text for a terminal.

    Args:
        analysis: what to print.
        top: number of layers.
    """
    shown = analysis.worst_first()[:top]
    headings = ["layer", "", "weight", "alone", "weights", "activ.", "built up", "largest", "saturated"]
    if analysis.accuracy:
        headings += ["mAP", "fidelity"]
    tensors = {tensor.name: tensor for tensor in analysis.tensors}
    rows = [headings]
    for cost in shown:
        result = tensors.get(cost.layer.output)
        row = [str(cost.layer.index), cost.layer.name, "x".join(map(str, cost.layer.weight_shape))]
        row += [_db(cost.worst(form)) for form in FORMS] + [_db(cost.built_up)]
        row += ["-", "-"] if result is None else [f"{result.values.absmax:.4g}", f"{result.saturated:.2%}"]
        if analysis.accuracy:
            score = cost.score_alone
            values = (None, None) if score is None else (score.mAP, score.fidelity)
            row += ["-" if value is None else f"{value:.4f}" for value in values]
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(
            cell.ljust(width) if place in (1, 2) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    whole = ", ".join(f"{name} {_db(value)} dB" for name, value in analysis.outputs.items())
    against = "FP32" if analysis.reference == "fp32" else "the model without rounded activations"
    lines.append(f"all in INT8, against {against}: {whole} ({analysis.images} images)")
    if analysis.accuracy:
        accuracy = analysis.accuracy
        int8 = Score(accuracy["int8"], accuracy["fidelity"])
        lines.append(
            f"mAP of {accuracy['images']} images: float {accuracy['float']:.4f}, every tensor in INT8 {int8}"
        )
    return "\n".join(lines)


def write_report(analysis: Analysis, folder: Path) -> None:
    """Write `analysis.json`, `analysis.csv` (layers) and `tensors.csv`.

    Raises: `UserError` when the disk cannot be written.
    """
    content = as_dict(analysis)
    write_json(folder / JSON, content)
    for name, rows in ((CSV, content["layers"]), (TENSORS, content["tensors"])):
        write_text(folder / name, _csv(rows))


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        texts = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()}
        writer.writerow(texts)
    return stream.getvalue()


def _db(value: float) -> str:
    number = plain(value, 1)
    return "-" if number is None else f"{number:.1f}"


def write_picture(analysis: Analysis, path: Path, named: int = 6) -> None:
    """Draw the layers from first to last: what each costs alone, and the error accumulated up to it.

    Args:
        analysis: what to draw; the same numbers produce the same bytes.
        path: of the PNG.
        named: number of the most expensive layers that are named.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    x = [cost.layer.index for cost in analysis.layers]

    def line(values: list[float]) -> list[float]:
        return [float("nan") if plain(value) is None else value for value in values]

    alone = line([cost.worst() for cost in analysis.layers])
    worst = [cost.layer.index for cost in analysis.worst_first()[:named]]
    colours = ["#c0392b" if index in worst else "#7f9fbf" for index in x]
    axis.bar(x, alone, color=colours, width=0.85, label="the layer alone in INT8")
    for form, mark in (("weights", "_"), ("activations", ".")):
        heights = line([cost.worst(form) for cost in analysis.layers])
        label = f"its {form} alone"
        axis.plot(x, heights, mark, color="#333333", markersize=4, label=label, linestyle="none")
    built_up = line([cost.built_up for cost in analysis.layers])
    axis.plot(x, built_up, color="#e67e22", linewidth=1.5, label="at the layer's result, all in INT8")
    texts = [
        f"{cost.layer.index} {cost.layer.name} {list(cost.layer.weight_shape)}: {_db(cost.worst())} dB"
        for cost in analysis.worst_first()[:named]
    ]
    axis.text(
        0.995, 0.98, "worst alone:\n" + "\n".join(texts), transform=axis.transAxes, ha="right", va="top",
        fontsize=8, bbox={"facecolor": "white", "edgecolor": "#c0392b", "alpha": 0.9},
    )  # fmt: skip
    heights = line([analysis.layers[x.index(index)].worst() for index in worst])
    axis.plot(worst, heights, "v", color="#c0392b", markersize=7, label="worst alone", linestyle="none")
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_xlabel("layer, first to last")
    axis.set_ylabel("signal-to-noise, dB (low is bad)")
    finite = [value for value in (*alone, *built_up) if value == value]
    axis.set_ylim(min(0.0, *finite) - 3, max(finite) * 1.6 if finite else 1)
    axis.set_xlim(-1, len(x))
    axis.grid(alpha=0.3, axis="y")
    axis.legend(loc="upper left", fontsize=8)
    with whole_file(path, "wb") as stream:
        figure.savefig(stream, format="png", metadata={"Software": None})
