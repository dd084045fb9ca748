"""A model over a data set: detections, and COCO's numbers of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np

from picoquant.evaluation.coco_metrics import coco_metrics, coco_results
from picoquant.paddle_program.network_input import select_inputs
from picoquant.postprocess import Decoder
from picoquant.storage.files import whole_file
from picoquant.utils.progress import Progress

Predict = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Evaluation:
    """What a model reaches on a data set.

    Attributes:
        metrics: COCO's twelve numbers by name (`mAP`, `AP50` …), see `coco_metrics`.
        per_class: AP by class name; None for a class without objects.
        detections: entries of a COCO results file, in the order of the images, with the data set's ids.
        images: number of images.
        seconds: for all images, reading and decoding included, COCO's counting not.
    """

    metrics: dict[str, float]
    per_class: dict[str, float | None]
    detections: list[dict[str, Any]] = field(repr=False)
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Speed over all images; 0 when there were none."""
        return self.images / self.seconds if self.seconds else 0.0

    def write_detections(self, path: Path, dataset) -> None:
        """Write the detections as a COCO results file, with the ids of the data set's annotation file.

        pycocotools gives the same numbers from both.
        """
        with whole_file(path) as stream:
            json.dump(dataset.with_own_ids(self.detections), stream)


def evaluate(
    predict: Predict,
    decoder: Decoder,
    dataset,
    reader: Iterable[Mapping[str, np.ndarray]],
    title: str = "evaluate",
) -> Evaluation:
    """Run a model over a data set and count.

    Args:
        predict: `predict(feed)` -> outputs; feeds are the inputs `predict.input_names`.
        decoder: fits the outputs.
        dataset: `picoquant.data.dataset.Dataset`: annotations, category ids, image ids.
        reader: batches `image [N, 3, H, W]`, `scale_factor [N, 2]`, `im_shape [N, 2]`, `image_id [N]`.
        title: what the progress line calls it.

    Raises: `WeightsError` when the model needs an input that no batch holds; `DataError` from the
        reader.
    """
    progress = Progress(title, len(dataset), "image")
    detections: list[dict[str, Any]] = []
    done, began = 0, time.monotonic()
    try:
        for batch in reader:
            outputs = predict(select_inputs(batch, predict.input_names))
            for image_id, found in zip(batch["image_id"], decoder.decode(outputs, batch["scale_factor"])):
                detections += coco_results(image_id, found, dataset.category_ids)
            done += len(batch["image"])
            progress.update(done)
    finally:
        progress.close()
    seconds = time.monotonic() - began
    metrics, per_class = coco_metrics(dataset.ground_truth(), detections, dataset.image_ids)
    return Evaluation(metrics, per_class, detections, done, seconds)
