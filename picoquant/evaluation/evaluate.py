"""Evaluation of a model on a data set: detections, and COCO's metrics of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from picoquant.data.images import UnreadableImageError, read_image
from picoquant.data.readers.threads import in_threads
from picoquant.errors import DataError, PicoquantError
from picoquant.evaluation.coco_metrics import metrics_of
from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.results import Results, ResultsOf, from_bytes, to_bytes
from picoquant.evaluation.voc_metrics import voc_metrics
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.network_input import select_inputs
from picoquant.postprocess import Decoder, Detections
from picoquant.runtimes.sliced import Slicing, detect_sliced
from picoquant.storage.files import whole_file
from picoquant.utils.progress import Progress


class Predict(Protocol):
    """A model that is called: the inputs by name in, the outputs in the model's order out.

    One that may be called in any thread says so by an attribute `in_any_thread`.

    Attributes:
        input_names: what a feed must hold.
    """

    @property
    def input_names(self) -> Sequence[str]: ...

    def __call__(self, feed: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]: ...


class Gathers(Protocol):
    """Processes that work together; `utils.process_group.Group` is one.

    Attributes:
        world: number of processes.
    """

    world: int

    def barrier(self) -> None:
        """Wait until all processes have called this."""

    def gather(self, content: bytes) -> list[bytes]:
        """One content of each process, in the order of their ranks."""


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a model on a data set.

    Attributes:
        metrics: COCO's twelve metrics by name (`mAP`, `AP50` …), see `coco_metrics`; VOC's two where asked for.
        per_class: AP by class name; None for a class without objects.
        detections: entries of a COCO results file, in the order of the images, with the data set's ids.
        images: number of images.
        seconds: time for all images, including reading and decoding, without computing COCO's metrics.
    """

    metrics: dict[str, float]
    per_class: dict[str, float | None]
    detections: Results = field(repr=False)
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Images per second over all images; 0 if there were none."""
        return self.images / self.seconds if self.seconds else 0.0

    def write_detections(self, path: Path, dataset: Any) -> None:
        """Write the detections as a COCO results file, from which pycocotools computes the same metrics.

        Args:
            path: of the file.
            dataset: that was evaluated on; the ids are those of its annotation file.
        """
        with whole_file(path) as stream:
            stream.writelines(Results.of(self.detections).json_parts(dataset))


def evaluate(
    predict: Predict,
    decoder: Decoder,
    dataset: Any,
    reader: Iterable[Mapping[str, np.ndarray]],
    title: str = "evaluate",
    voc: bool = False,
    group: Gathers | None = None,
    mine: int | None = None,
) -> Evaluation:
    """Run a model on every image of a data set and compute COCO's metrics.

    Args:
        predict: `predict(feed)` -> outputs; the feed holds the inputs `predict.input_names`.
        decoder: turns the outputs into detections.
        dataset: `picoquant.data.dataset.Dataset`: annotations, category ids, image ids.
        reader: batches `image [N, 3, H, W]`, `scale_factor [N, 2]`, `im_shape [N, 2]`, `image_id [N]`,
            where there is padding `pad_offset [N, 2]`.
        title: title of the progress line.
        voc: VOC's metrics, too, see `voc_metrics`.
        group: processes that share the images, each with its part of them in `reader`; None: this one has all.
        mine: how many images are in `reader`; None: all.

    Raises: `WeightsError` if the model has an input that no batch holds; `DataError` from the reader.
    """
    return count(dataset, _found(predict, decoder, reader), title, voc, group, mine)


def count(
    dataset: Any,
    found: Iterable[tuple[int, Detections]],
    title: str = "evaluate",
    voc: bool = False,
    group: Gathers | None = None,
    mine: int | None = None,
) -> Evaluation:
    """COCO's metrics of the detections in the images of a data set.

    Args:
        dataset, title, voc, group: as of `evaluate`; with a group every process returns the numbers of all images.
        found: of each image its id and its detections, made when they are asked for.
        mine: how many images are in `found`; None: all.
    """
    progress = Progress(title, len(dataset) if mine is None else mine, "image")
    collected = ResultsOf(dataset.category_ids)
    done, began = 0, time.monotonic()
    try:
        for image_id, found_there in found:
            collected.add(image_id, found_there)
            done += 1
            progress.update(done)
    finally:
        progress.close()
    detections = collected.results()
    if group is not None:
        detections, done = _together(group, dataset, detections, done)
    seconds = time.monotonic() - began
    ids = dataset.image_ids
    objects = Objects.of_classes(dataset.objects(), dataset.category_ids)
    metrics, per_class = metrics_of(objects, dataset.names_by_id, detections, ids)
    if voc:
        metrics |= voc_metrics(dataset.ground_truth(), detections, ids)
    return Evaluation(metrics, per_class, detections, done, seconds)


def _together(group: Gathers, dataset: Any, detections: Results, done: int) -> tuple[Results, int]:
    """The detections of all processes in the order of the images, and the number of images.

    Raises: `PicoquantError` when the processes do not have each image once.
    """
    group.barrier()  # one that has slower images, or fewer cores, may be long behind
    parts = [from_bytes(content) for content in group.gather(to_bytes(done, detections))]
    images = sum(number for number, _ in parts)
    if images != len(dataset):
        raise PicoquantError(
            f"{images} images were evaluated by all processes, and the data set has {len(dataset)}"
        )
    every = Results.joined([part for _, part in parts])
    ids = np.array(dataset.image_ids, np.int64)
    order = np.argsort(ids)
    places = order[np.searchsorted(ids, every.image_id, sorter=order)]
    return every.at(np.argsort(places, kind="stable")), images


def _found(
    predict: Predict, decoder: Decoder, reader: Iterable[Mapping[str, np.ndarray]]
) -> Iterator[tuple[int, Detections]]:
    def run(batch: Mapping[str, np.ndarray]) -> tuple[Mapping[str, np.ndarray], Sequence[np.ndarray]]:
        return batch, predict(select_inputs(batch, predict.input_names))

    # The next images go through the network while what was found in these is decoded.
    for batch, outputs in in_threads(run, reader, int(getattr(predict, "in_any_thread", False))):
        yield from zip(
            batch["image_id"], decoder.decode(outputs, batch["scale_factor"], batch.get("pad_offset"))
        )


def evaluate_sliced(
    predict: Predict,
    decoder: Decoder,
    dataset: Any,
    config: InferConfig,
    slicing: Slicing,
    title: str = "evaluate",
    voc: bool = False,
) -> Evaluation:
    """As `evaluate`, each image in parts; see `detect_sliced`.

    Args:
        predict, decoder, dataset, title, voc: as of `evaluate`.
        config: the model's preprocessing.
        slicing: how images are taken apart.

    Raises: as `evaluate`; `ConfigError` for parts that are too small.
    """

    def found() -> Iterator[tuple[int, Detections]]:
        for record in dataset.records:
            try:
                image = read_image(Path(record.path))
            except UnreadableImageError as error:
                raise DataError(str(error)) from error
            yield record.image_id, detect_sliced(predict, decoder, image, config, slicing)

    return count(dataset, found(), title, voc)
