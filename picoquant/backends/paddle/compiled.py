"""The network as it is now, compiled for evaluation in the middle of training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.paddle.runtime import PaddlePredictor, open_predictor
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.utils.paddle_version.differences import paddle_3

Predictor = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]


def compiled_predictor(
    detector: Any, input_size: Sequence[int], device: str = "cpu", threads: int = 0
) -> PaddlePredictor:
    """Export a network to a temporary folder and load it into Paddle's inference runtime.

    On a CPU that is five times as fast as the network itself (`dygraph_predictor`), and pays off from
    some twenty images on. Later changes of the network's weights do not reach the predictor.

    Args:
        detector: a `PicoDet`; its mode stays as it is.
        input_size: height and width of the images.
        device, threads: as in `open_predictor`.

    Returns: a predictor with the outputs `boxes [N, L, 4]` in input pixels and `scores [N, C, L]`, which
        `Decoder("boxes", nms)` reads.
    """
    from picoquant.export.paddle_export import export_model

    config = InferConfig(
        tuple(input_size),
        labels=tuple(str(label) for label in range(detector.num_classes)),
        strides=detector.strides,
    )
    with tempfile.TemporaryDirectory(prefix="picoquant-") as name:
        folder = export_model(detector, Path(name), "boxes", input_size, config)
        return open_predictor(folder, device, threads)


def compiled_teacher(
    detector: Any,
    maps: bool,
    outputs: bool,
    scale: Sequence[float] = (1.0, 1.0, 1.0),
    shift: Sequence[float] = (0.0, 0.0, 0.0),
    device: str = "cpu",
    threads: int = 0,
) -> Predictor:
    """Export what a student learns from and load it into Paddle's inference runtime, for images of any size.

    Nothing of a teacher is trained, so all of it may run there: feature maps, too.

    Args:
        detector: a `PicoDet` with its trained weights.
        maps, outputs, scale, shift: as in `TeacherForm`.
        device, threads: as in `open_predictor`.

    Returns: a predictor with the outputs of `TeacherForm`; on Paddle 3 each size is exported when it first comes.
    """
    from picoquant.export.teacher_form import TeacherForm, write_teacher

    labels = tuple(str(label) for label in range(detector.num_classes))
    config = InferConfig((64, 64), labels=labels, strides=detector.strides)
    form = TeacherForm(detector, maps, outputs, scale, shift)

    def opened(*size: int | None) -> PaddlePredictor:
        with tempfile.TemporaryDirectory(prefix="picoquant-") as name:
            folder = Path(name)
            write_teacher(form, folder, size)
            files = ModelFolder(folder, folder / MODEL, folder / PARAMS, config)
            return open_predictor(files, device, threads)

    if not paddle_3():
        return opened(None, None)
    of_size: dict[tuple[int, ...], PaddlePredictor] = {}

    def predict(feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        size = tuple(feed["image"].shape[2:])
        if size not in of_size:
            of_size[size] = opened(*size)
        return of_size[size](feed)

    return predict
