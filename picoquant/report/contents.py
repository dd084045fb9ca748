"""The contents of a report. For a part that is None, `Report.absent` holds the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from picoquant.evaluation.confusion import Confusion
from picoquant.evaluation.paired import Paired
from picoquant.evaluation.precision_recall import PrecisionRecall
from picoquant.report.pictures import Pair


@dataclass(frozen=True)
class StageRow:
    """A stage of the pipeline.

    Attributes:
        name: name of the stage.
        status: its status in run.json, or `not run`.
        started: ISO 8601 time of its start; empty if it was not run.
        seconds: its duration; None if it was not run.
        share: its part of the time of all stages, 0 to 1.
        idle: the part of the processors' time in which it did not compute, 0 to 1; None where it was not recorded.
        command: the command that ran it.
        note: why it was skipped or failed; empty otherwise.
    """

    name: str
    status: str
    started: str
    seconds: float | None
    share: float
    idle: float | None
    command: str
    note: str


@dataclass(frozen=True)
class Detections:
    """Detections of the models in the evaluation images.

    Attributes:
        images: number of images.
        curves: precision-recall curves of `fp32` and, if the run has it, `int8`.
        confusions: confusion matrices of the same models.
        paired: INT8 compared with FP32; None without INT8.
        worst, typical: images with the boxes of both models, side by side.
        legend: name and colour of the classes in these pictures.
        no_pictures: why there are no pictures; empty if there are.
    """

    images: int
    curves: Mapping[str, PrecisionRecall]
    confusions: Mapping[str, Confusion]
    paired: Paired | None = None
    worst: Sequence[Pair] = ()
    typical: Sequence[Pair] = ()
    legend: Sequence[tuple[str, str]] = ()
    no_pictures: str = ""


@dataclass(frozen=True)
class Training:
    """A training: rows of metrics.csv and evaluations.csv, or of qat.csv.

    Attributes:
        steps: rows with losses.
        evaluations: rows with metrics.
        losses: columns of `steps` to plot.
        note: a remark for the reader; may be empty.
    """

    steps: Sequence[Mapping[str, float]]
    evaluations: Sequence[Mapping[str, float]]
    losses: Sequence[str]
    note: str = ""


@dataclass(frozen=True)
class Layers:
    """Ranges of an INT8 model, and the measurements of `picoquant analyze`.

    Attributes:
        ranges: absmax of the input of each layer, first to last layer.
        analysis: content of analysis.json; None if the model was not analysed.
    """

    ranges: Sequence[float]
    analysis: Mapping[str, Any] | None


@dataclass(frozen=True)
class Board:
    """The INT8 model on a target.

    Attributes:
        target: name of the target.
        check: result of `picoquant check` as JSON values; None if the check is not possible, see `note`.
        picture: the partitioned network as an `<svg>` element; empty if there is none, see `note`.
        note: why there is no check or no picture; may be empty.
    """

    target: str
    check: Mapping[str, Any] | None
    picture: str = ""
    note: str = ""


@dataclass(frozen=True)
class SizeRow:
    """A model's files.

    Attributes:
        name: path in the run folder.
        what: description.
        bytes: size of the files.
    """

    name: str
    what: str
    bytes: int


@dataclass(frozen=True)
class Report:
    """The whole report.

    Attributes:
        name: name of the run folder.
        about: run.json without its stages: versions, platform, device, recipe, command.
        stages: one row per stage.
        metrics: COCO's metrics by model; empty if the run was not evaluated.
        config: the resolved configuration, YAML.
        warnings: warnings at the top of the page.
        backends: content of backends/results.json; benchmark: content of benchmark/results.json.
        absent: for each missing part, one line that names the command which produces it.
    """

    name: str
    about: Mapping[str, Any]
    stages: Sequence[StageRow]
    metrics: Mapping[str, Mapping[str, float]]
    config: str
    warnings: Sequence[str] = ()
    detections: Detections | None = None
    backends: Mapping[str, Any] | None = None
    benchmark: Mapping[str, Any] | None = None
    training: Training | None = None
    qat: Training | None = None
    layers: Layers | None = None
    boards: Sequence[Board] = ()
    sizes: Sequence[SizeRow] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
