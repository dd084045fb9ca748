"""Detection in a stream of frames, with JSON lines and, if requested, annotated images as results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.errors import DataError
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.postprocess import Detections
from picoquant.prediction.draw import draw
from picoquant.prediction.sources import Frame
from picoquant.runtimes.backends import Running
from picoquant.runtimes.detect import detect
from picoquant.storage.files import whole_file
from picoquant.utils.progress import Progress


@dataclass(frozen=True)
class Speed:
    """Counts and time of a prediction.

    Attributes:
        images: number of frames.
        detections: number of detections with at least the threshold's score.
        seconds: time for all frames: reading, network, NMS, drawing, writing.
    """

    images: int
    detections: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Images per second over all frames; 0 if there were none."""
        return self.images / self.seconds if self.seconds else 0.0


def predict(
    ready: Running,
    config: InferConfig,
    stream: Iterable[Frame],
    threshold: float,
    emit: Callable[[str], None],
    folder: Path | None = None,
    total: int = 0,
) -> Speed:
    """Detect objects in each frame of a stream; only the current frame is in memory.

    Args:
        ready: the model in a runtime.
        config: the model's preprocessing and labels.
        stream: the frames.
        threshold: smallest score of a detection that is drawn and printed.
        emit: called with one line of JSON per frame.
        folder: folder for annotated images (JPEG, `<name>.jpg`); None to write none.
        total: number of frames for the progress line; 0 if it is unknown.

    Raises: `DataError` if an annotated image cannot be encoded, and every error that `stream` raises.
    """
    progress = Progress("predict", total, "image")
    began, images, count = time.perf_counter(), 0, 0
    try:
        for frame in stream:
            found = detect(ready.predict, ready.decoder, feed_of_image(frame.image, config))
            found = above(found, threshold)
            written = _write(frame, found, config.labels, folder) if folder else None
            emit(json.dumps(as_json(frame, found, config.labels, written)))
            images, count = images + 1, count + len(found)
            progress.update(images)
    finally:
        progress.close()
    return Speed(images, count, time.perf_counter() - began)


def above(found: Detections, threshold: float) -> Detections:
    """The detections with a score of at least `threshold`."""
    chosen = found.scores >= threshold
    return Detections(found.classes[chosen], found.scores[chosen], found.boxes[chosen])


def as_json(frame: Frame, found: Detections, labels: Sequence[str], written: Path | None) -> dict[str, Any]:
    """The content of one line of JSON; boxes are `[x1, y1, x2, y2]` in image pixels.

    Args:
        frame: the frame.
        found: its detections.
        labels: class names by class index.
        written: path of the annotated image; None if there is none.
    """
    rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist())
    return {
        "source": frame.source,
        **({} if frame.number is None else {"frame": frame.number}),
        "width": frame.image.shape[1],
        "height": frame.image.shape[0],
        **({} if written is None else {"annotated": str(written)}),
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


def _write(frame: Frame, found: Detections, labels: Sequence[str], folder: Path) -> Path:
    import cv2

    drawn = draw(frame.image, found, labels)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not ok:
        raise DataError(f"{frame.source} cannot be written as JPEG")
    path = folder / f"{frame.name}.jpg"
    with whole_file(path, "wb") as stream:
        stream.write(data.tobytes())
    return path
