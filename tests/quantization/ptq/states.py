"""Networks as the passes of post-training quantisation get them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.calibration_images import CalibrationImages
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.paths import QuantizationPaths
from picoquant.quantization.processes import Processes
from picoquant.quantization.ptq.state import PtqState
from picoquant.quantization.settings import QuantizationSettings
from picoquant.utils.progress import Progress
from tests.networks import small_net


def context_of(
    model: Path,
    folder: Path,
    batches: Callable[[], Iterator[dict]] = lambda: small_net.batches(0),
    quant: dict | None = None,
    **own: Any,
) -> QuantizationContext:
    """The context of a quantisation by PTQ.

    Args:
        model: folder of the exported network; copied.
        folder: for the quantisation's files.
        batches: opens the calibration images; two batches are taken.
        quant: changes to section `QuantAware`.
        own: of section `Quantize`.
    """
    paths = QuantizationPaths(folder / "out", folder / "work")
    for copy in (paths.student, paths.teacher):
        shutil.copytree(model, copy)
    settings = replace(
        small_net.settings(quant=quant), quantization=QuantizationSettings(method="ptq", **own)
    )
    return QuantizationContext(
        paths=paths,
        config=small_net.CONFIG,
        settings=settings,
        fingerprint=paths.fingerprint(settings),
        images=CalibrationImages(batches, settings.calibration_batches, paths.calibration),
        metric=None,
        show=Progress,
        processes=Processes(),
        count_pieces=lambda folder: {},
        convolutions=Convolutions(onednn=True),
    )


def load_state(context: QuantizationContext) -> PtqState:
    """The network of a context before the first pass."""
    return PtqState(context, ProgramModel.load(context.paths.student), context.settings.quant)
