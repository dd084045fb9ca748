"""Detection in a stream of frames, with JSON lines and, if requested, annotated images as results."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.postprocess import Detections
from picoquant.prediction.draw import Painter
from picoquant.prediction.sources import Frame, Unreadable
from picoquant.prediction.window import Window
from picoquant.runtimes.backends import Running
from picoquant.runtimes.detect import detect
from picoquant.runtimes.sliced import Slicing, detect_sliced
from picoquant.storage.files import whole_file
from picoquant.utils.progress import Progress

LOG = logging.getLogger("picoquant")

_JPEG_SIDE = 65500  # largest side that libjpeg writes, pixels


@dataclass(frozen=True)
class Outcome:
    """Counts and time of a prediction.

    Attributes:
        images: number of frames.
        detections: number of detections with at least the threshold's score.
        failed: what is wrong with each source that could not be read, or whose picture not be written.
        seconds: time for all frames: reading, network, NMS, drawing, writing.
    """

    images: int
    detections: int
    failed: tuple[str, ...]
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Images per second over all frames; 0 if there were none."""
        return self.images / self.seconds if self.seconds else 0.0


def predict(
    ready: Running,
    config: InferConfig,
    stream: Iterable[Frame | Unreadable],
    threshold: float,
    emit: Callable[[str], None],
    folder: Path | None = None,
    total: int = 0,
    slicing: Slicing | None = None,
    window: Window | None = None,
) -> Outcome:
    """Detect objects in each frame of a stream; only the current frame is in memory.

    A source that cannot be read gets a warning and a line of JSON with `error`; the others follow.

    Args:
        ready: the model in a runtime.
        config: the model's preprocessing and labels.
        stream: the frames, see `sources.frames`.
        threshold: smallest score of a detection that is drawn and printed.
        emit: called with one line of JSON per frame.
        folder: folder for annotated images (JPEG, `<name>.jpg`); None to write none.
        total: number of frames for the progress line; 0 if it is unknown.
        slicing: how frames are taken apart; None: they are not.
        window: shows annotated frames, and may end the stream; None: there is none.

    Raises: every error that the model and `stream` raise.
    """
    progress = Progress("predict", total, "image")
    painter = Painter(config.labels) if folder or window else None
    began, images, count, failed = time.perf_counter(), 0, 0, []
    try:
        for frame in stream:
            if isinstance(frame, Unreadable):
                failed.append(frame.reason)
                LOG.warning("%s", frame.reason)
                emit(json.dumps({"source": frame.source, "error": frame.reason}))
                continue
            if slicing is None:
                found = detect(ready.predict, ready.decoder, feed_of_image(frame.image, config))
            else:
                found = detect_sliced(ready.predict, ready.decoder, frame.image, config, slicing)
            found = above(found, threshold)
            row = as_json(frame, found, config.labels)
            drawn = frame.image if painter is None else painter.draw(frame.image, found)
            if folder is not None:
                path = folder / f"{frame.name}.jpg"
                reason = _write(drawn, path)
                row |= {"error": reason} if reason else {"annotated": str(path)}
                if reason:
                    failed.append(f"{frame.source}: {reason}")
                    LOG.warning("%s", failed[-1])
            emit(json.dumps(row))
            images, count = images + 1, count + len(found)
            progress.update(images)
            if window is not None and not window.show(drawn, frame.source, frame.number is None):
                break
    finally:
        progress.close()
    return Outcome(images, count, tuple(failed), time.perf_counter() - began)


def above(found: Detections, threshold: float) -> Detections:
    """The detections with a score of at least `threshold`."""
    chosen = found.scores >= threshold
    return Detections(found.classes[chosen], found.scores[chosen], found.boxes[chosen])


def as_json(frame: Frame, found: Detections, labels: Sequence[str]) -> dict[str, Any]:
    """The content of one line of JSON; boxes are `[x1, y1, x2, y2]` in image pixels.

    Args:
        frame: the frame.
        found: its detections.
        labels: class names by class index.
    """
    rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist())
    return {
        "source": frame.source,
        **({} if frame.number is None else {"frame": frame.number}),
        "width": frame.image.shape[1],
        "height": frame.image.shape[0],
        "detections": [
            {
                "class": label,
                "label": labels[label] if label < len(labels) else str(label),
                "score": round(score, 6),
                "box": [round(side, 2) for side in box],
            }
            for label, score, box in rows
        ],
    }


def _write(drawn: np.ndarray, path: Path) -> str:
    """Write an image `[H, W, 3]` uint8 RGB as JPEG; returns why it is impossible, or nothing."""
    import cv2

    height, width = drawn.shape[:2]
    if max(height, width) > _JPEG_SIDE:
        return (
            f"{width}x{height} pixels are too many for a JPEG, which ends at {_JPEG_SIDE}; nothing is drawn"
        )
    _, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    with whole_file(path, "wb") as stream:
        stream.write(data.tobytes())
    return ""
