"""Measures candidates: INT8 models that differ in which layers stay in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from picoquant.int8.build import Int8Source, build_network
from picoquant.int8.paddle.writer import write_lite_model
from picoquant.quantization.evaluation import ModelMetric

# Counts an INT8 model's pieces on each NPU of the recipe, given its folder; empty where there is no opt.
PieceCounter = Callable[[Path], Mapping[str, int]]


@dataclass(frozen=True)
class CandidateEvaluator:
    """Writes a candidate aside and measures it.

    Attributes:
        folder: where candidates are written, each over the one before.
        metric: gives their mAP.
        count_pieces: NPU pieces of a folder's model.
    """

    folder: Path
    metric: ModelMetric
    count_pieces: PieceCounter

    def metric_of(self, source: Int8Source) -> float:
        """mAP of the model that would be written, 0 to 1."""
        return self.metric.of_int8(source, self.folder).mAP

    def pieces_of(self, source: Int8Source) -> Mapping[str, int]:
        """Pieces of the model that would be written, by NPU."""
        return self.count_pieces(self._written(source))

    def _written(self, source: Int8Source) -> Path:
        write_lite_model(build_network(source), self.folder)
        return self.folder
