"""What every step of a quantisation uses; made once by `quantize`, never changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from picoquant.paddle_program.infer_config import InferConfig
from picoquant.quantization.calibration_images import CalibrationImages
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.evaluation import ModelMetric
from picoquant.quantization.paths import QuantizationPaths
from picoquant.quantization.processes import Processes
from picoquant.quantization.settings import QuantizationSections
from picoquant.utils.progress import Progress

# Called with the number of steps that are done.
ShowDone = Callable[[int], None]


@dataclass(frozen=True)
class QuantizationContext:
    """The surroundings of a quantisation.

    Attributes:
        paths: where files are found and written.
        config: of the FP32 model's folder, for models that are opened.
        settings: all sections.
        fingerprint: of models, settings and seed; what was kept with another one is not used.
        images: the calibration images.
        metric: mAP of models; None: nothing is evaluated.
        show: creates a progress line.
        processes: rank 0 alone calibrates, evaluates and writes.
        count_pieces: NPU pieces of an INT8 model folder by NPU of the recipe; empty where they cannot be counted.
        convolutions: of all networks of this quantisation: tracing them takes longer than many images.
    """

    paths: QuantizationPaths
    config: InferConfig
    settings: QuantizationSections
    fingerprint: str
    images: CalibrationImages
    metric: ModelMetric | None
    show: Callable[..., Progress]
    processes: Processes
    count_pieces: Callable[[Path], Mapping[str, int]]
    convolutions: Convolutions

    def progress(self, title: str) -> ShowDone:
        """Start a line that shows progress over the calibration batches.

        Args:
            title: what is being done.

        Returns: a function to call with the number of batches that are done.
        """
        line = self.show(title, len(self.images), unit="batch")
        line.update(0)
        return line.update
