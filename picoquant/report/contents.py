"""What a report is made of. A part that is None has its reason in `Report.absent`."""

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
        share: of the time of all stages, 0 to 1.
        note: why it was skipped or failed.
    """

    name: str
    status: str
    started: str
    seconds: float | None
    share: float
    command: str
    note: str


@dataclass(frozen=True)
class Detections:
    """What the models found in the evaluation images, by `fp32` and, where the run has it, `int8`.

    Attributes:
        images: how many.
        paired: INT8 against FP32; None without INT8.
        worst, typical: images side by side.
        legend: class names and colours of the pictures.
        no_pictures: why there are none.
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
    """Rows of metrics.csv and evaluations.csv, or of qat.csv."""

    steps: Sequence[Mapping[str, float]]
    evaluations: Sequence[Mapping[str, float]]
    losses: Sequence[str]
    note: str = ""


@dataclass(frozen=True)
class Layers:
    """Ranges of an INT8 model, and what `picoquant analyze` measured.

    Attributes:
        ranges: largest absolute value of what each layer reads, first to last.
        analysis: the content of analysis.json; None: not analysed.
    """

    ranges: Sequence[float]
    analysis: Mapping[str, Any] | None


@dataclass(frozen=True)
class Board:
    """What a target does with the INT8 model.

    Attributes:
        check: what `picoquant check` says, as JSON; None: it cannot say.
        picture: the network as an `<svg>` element; empty: see note.
    """

    target: str
    check: Mapping[str, Any] | None
    picture: str = ""
    note: str = ""


@dataclass(frozen=True)
class SizeRow:
    """A model's files."""

    name: str
    what: str
    bytes: int


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        name: of the run folder.
        about: run.json without its stages: versions, platform, device, recipe, command.
        warnings: what a reader must know first.
        metrics: COCO's numbers by model; empty: not evaluated.
        backends: content of backends/results.json; benchmark: of benchmark/results.json.
        config: the resolved configuration, YAML.
        absent: by part, one line: what command makes it.
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
