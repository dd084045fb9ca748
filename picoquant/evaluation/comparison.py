"""Comparison of several models on the same images: one row each, as table, JSON and CSV."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.backends.table import REFERENCE
from picoquant.errors import DataError
from picoquant.evaluation.evaluate import Evaluation
from picoquant.evaluation.fidelity import Fidelity, detections_as_objects, fidelity
from picoquant.evaluation.paired import Paired, paired
from picoquant.utils.tables import columns

LOG = logging.getLogger("picoquant")

_COLUMNS = (
    ("mAP", "mAP"),
    ("AP50", "AP50"),
    ("AP75", "AP75"),
    ("APs", "small"),
    ("APm", "medium"),
    ("APl", "large"),
)
_VOC_COLUMNS = (("VOC_11point", "VOC 11"), ("VOC_integral", "VOC area"))


@dataclass(frozen=True)
class Row:
    """The metrics of one model in one runtime.

    Attributes:
        name: name of the row, for example `onnx_int8`.
        backend, precision: the runtime, and `fp32` or `int8`.
        model: name of the model, or `weights`.
        evaluation: COCO's metrics, 0 to 1, and the detections.
        latency_ms, latency_p90_ms: latency of the network alone, one image per call: median and 90th
            percentile; None where no time was taken.
        bytes: size of the files that the runtime loads.
        note: a remark that is needed to read the numbers; may be empty.
    """

    name: str
    backend: str
    precision: str
    model: str
    evaluation: Evaluation
    latency_ms: float | None
    latency_p90_ms: float | None
    bytes: int
    note: str = ""


def reference_of(rows: Sequence[Row]) -> Row | None:
    """The row to compare with: FP32 in Paddle's runtime, else the first FP32 row, else None."""
    floats = [row for row in rows if row.precision == "fp32"]
    return next((row for row in floats if row.backend == REFERENCE), floats[0] if floats else None)


def as_json(rows: Sequence[Row], not_run: Mapping[str, str]) -> dict[str, Any]:
    """The comparison as JSON values.

    Args:
        rows: the models that were run.
        not_run: the reason for each model that was not, by name.

    Returns: `backends.<name>` with the metrics of each row, `not_run`, the name of the `reference` and the
        number of `images`.
    """
    reference = reference_of(rows)
    return {
        "reference": reference.name if reference else None,
        "images": rows[0].evaluation.images if rows else 0,
        "backends": {row.name: _numbers(row, reference) for row in rows},
        "not_run": dict(not_run),
    }


def _numbers(row: Row, reference: Row | None) -> dict[str, Any]:
    found = row.evaluation
    return {
        "backend": row.backend,
        "precision": row.precision,
        "model": row.model,
        **found.metrics,
        "difference": found.metrics["mAP"] - reference.evaluation.metrics["mAP"] if reference else None,
        "latency_ms": row.latency_ms,
        "latency_p90_ms": row.latency_p90_ms,
        "images_per_second": found.images_per_second,
        "bytes": row.bytes,
        "note": row.note,
        "per_class": found.per_class,
    }


def as_csv(rows: Sequence[Row], fidelities: Mapping[str, Fidelity]) -> str:
    """The same metrics as CSV text, one line per row, with fidelity, and a column `AP <class>` for each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    reference = reference_of(rows)
    for number, row in enumerate(rows):
        values = _numbers(row, reference)
        classes = values.pop("per_class")
        if number == 0:
            writer.writerow(["name", *values, "fidelity", *(f"AP {name}" for name in classes)])
        found = fidelities.get(row.name)
        cells = [*values.values(), found and found.value, *classes.values()]
        writer.writerow([row.name, *("" if value is None else value for value in cells)])
    return text.getvalue()


def as_table(
    rows: Sequence[Row],
    not_run: Mapping[str, str],
    per_class: bool = False,
    fidelities: Mapping[str, Fidelity] | None = None,
) -> str:
    """The comparison as text: a line per row, what was not run too, AP by class if `per_class`, notes."""
    fidelities = fidelities or {}
    reference = reference_of(rows)
    shown = [*_COLUMNS, *(one for one in _VOC_COLUMNS if rows and one[0] in rows[0].evaluation.metrics)]
    head = ["", *(title for _, title in shown), "- FP32", "fidelity", "ms", "p90", "MB"]
    lines = [head]
    for row in rows:
        metrics = row.evaluation.metrics
        change = "-"
        if reference is not None and metrics["mAP"] >= 0:  # -1: nothing is annotated
            change = f"{metrics['mAP'] - reference.evaluation.metrics['mAP']:+.4f}"
        lines.append(
            [
                row.name,
                *(_score(metrics[key]) for key, _ in shown),
                change if row is not reference else "",
                f"{fidelities[row.name].value:.4f}" if row.name in fidelities else "",
                *("-" if time is None else f"{time:.1f}" for time in (row.latency_ms, row.latency_p90_ms)),
                f"{row.bytes / 1e6:.2f}",
            ]
        )
    lines += [[name, *"-" * (len(head) - 1)] for name in not_run]
    parts = [columns(lines)]
    if per_class and rows:
        names = list(rows[0].evaluation.per_class)
        table = [["AP", *(row.name for row in rows)]]
        for name in names:
            values = (row.evaluation.per_class[name] for row in rows)
            table.append([name, *("-" if value is None else f"{value:.4f}" for value in values)])
        parts.append(columns(table))
    notes = [f"{row.name}: {row.note}" for row in rows if row.note]
    notes += [f"{name}: not run, {reason}" for name, reason in not_run.items()]
    if notes:
        parts.append("\n".join(notes))
    return "\n\n".join(parts)


def _score(value: float) -> str:
    return "-" if value < 0 else f"{value:.4f}"


def _int8_and_fp32(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Each INT8 row with the FP32 row of its runtime, or else the reference."""
    floats = {row.backend: row for row in rows if row.precision == "fp32"}
    for row in rows:
        other = floats.get(row.backend, reference_of(rows))
        if row.precision == "int8" and other is not None:
            yield row, other


def int8_pairs(rows: Sequence[Row], dataset: Any) -> dict[str, Paired]:
    """The difference of mAP between each INT8 row and its FP32 row, by the INT8 row's name."""
    truth, ids = dataset.ground_truth(), dataset.image_ids
    return {
        row.name: paired(truth, other.evaluation.detections, row.evaluation.detections, ids)
        for row, other in _int8_and_fp32(rows)
    }


def int8_fidelities(rows: Sequence[Row], dataset: Any, required: bool) -> dict[str, Fidelity]:
    """Fidelity of each INT8 row.

    Raises: `DataError` when it is required and FP32 detects nothing.
    """
    frame, ids, found = dataset.ground_truth(), dataset.image_ids, {}
    for row, other in _int8_and_fp32(rows):
        try:
            found[row.name] = fidelity(
                frame, other.evaluation.detections, row.evaluation.detections, ids, other.name
            )
        except DataError as error:
            if required:
                raise
            LOG.info("%s: no fidelity, %s", row.name, error)
    return found


def int8_models_compared(rows: Sequence[Row], dataset: Any) -> dict[str, tuple[str, Paired]]:
    """The difference of fidelity between INT8 models, each beside the first one in its runtime.

    Returns: by the row's name, that of the first model's row, and the difference; none where there is no FP32 row, or
        it detects nothing.
    """
    reference = reference_of(rows)
    if reference is None:
        return {}
    expected = detections_as_objects(dataset.ground_truth(), reference.evaluation.detections)
    first: dict[str, Row] = {}
    found = {}
    for row in rows if expected["annotations"] else ():
        other = first.setdefault(row.backend, row) if row.precision == "int8" else row
        if other is not row:
            first_found, found_here = other.evaluation.detections, row.evaluation.detections
            found[row.name] = other.name, paired(expected, first_found, found_here, dataset.image_ids)
    return found
