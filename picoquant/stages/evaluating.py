"""One way to evaluate a model on a data set, for all stages and commands."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.paddle.runtime import dygraph_predictor, open_predictor
from picoquant.backends.source import Source
from picoquant.backends.table import DYGRAPH
from picoquant.data.dataset import Dataset
from picoquant.data.settings import ReaderSettings
from picoquant.data.subset import share
from picoquant.errors import ToolError
from picoquant.evaluation.evaluate import Evaluation, Predict, evaluate
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import select_inputs
from picoquant.postprocess import Decoder
from picoquant.runtimes.backends import Running
from picoquant.stages.model import load_trained, say_classes, trained_classes, trained_weights
from picoquant.stages.stage import Context
from picoquant.utils.device import available_cpus, rank_and_world, use_device

if TYPE_CHECKING:
    from picoquant.data.readers.reader import EvalReader

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class EvaluationImages:
    """The images that models are evaluated on, as these models need them; made by `evaluation_images`.

    Attributes:
        dataset: the images, their annotations and the classes.
        reader: makes the batches, the same ones each time.
        voc: VOC's mAP is counted, too.
        group: processes that share the images, each with its part in `reader`; None: this one has all.
    """

    dataset: Dataset
    reader: EvalReader
    voc: bool = False
    group: Any = None

    def single_feeds(self, names: Sequence[str], count: int) -> list[Mapping[str, np.ndarray]]:
        """The first images as feeds of one image each.

        Args:
            names: the network's inputs.
            count: how many images.

        Returns: at most `count` feeds: name -> `[1, …]`.
        """
        feeds = []
        size = self.reader.settings.batch_size
        for batch in itertools.islice(self.reader, -(-count // size)):
            feed = select_inputs(batch, names)
            feeds += [
                {name: value[i : i + 1] for name, value in feed.items()} for i in range(len(batch["image"]))
            ]
        return feeds[:count]


def evaluation_images(
    dataset: Dataset, settings: ReaderSettings, workers: int, voc: bool = False, shared: bool = False
) -> EvaluationImages:
    """Images to evaluate one model on, or several that need the same preprocessing.

    Args:
        dataset: loaded to be evaluated on; `datasets.first` limits it.
        settings: `plan.eval_reader` for a network of the recipe, `plan.eval_reader_of(config)` for an exported
            model, which has preprocessing of its own.
        workers: threads that make the batches; 0 makes them in the caller's.
        voc: `plan.voc`, where the numbers are shown.
        shared: all processes of `paddle.distributed.launch`, if there are several, evaluate their part of the images.
    """
    from picoquant.data.readers.reader import EvalReader

    rank, world = rank_and_world()
    if not shared or world == 1:
        return EvaluationImages(dataset, EvalReader(dataset, settings, workers), voc)
    from picoquant.utils.process_group import Group

    mine = share(dataset, settings.batch_size, rank, world)
    return EvaluationImages(dataset, EvalReader(mine, settings, workers), voc, Group())


def evaluate_model(
    predict: Predict, decoder: Decoder, images: EvaluationImages, title: str = "evaluate"
) -> Evaluation:
    """Run a model over images, decode what it returns, and compute COCO's numbers, VOC's where the images ask for them.

    Args:
        predict: `predict(feed)` -> outputs; a feed holds the inputs `predict.input_names`.
        decoder: fits the outputs.
        images: with the model's preprocessing.
        title: of the progress line.

    Raises: `WeightsError` when the model needs an input that no batch holds, or returns what is not finite;
        `DataError` naming an image that cannot be read.
    """
    mine = len(images.reader.dataset)
    return evaluate(predict, decoder, images.dataset, images.reader, title, images.voc, images.group, mine)


@contextmanager
def open_quickly(folder: ModelFolder, device: str) -> Iterator[Any]:
    """What predicts with a model in ONNX Runtime, with an INT8 model's own integers; in Paddle where that refuses it.

    Float models on a GPU, or with NMS inside, which ONNX has in another form, run in Paddle, too.

    Args:
        folder: a float or INT8 model.
        device: of Paddle.
    """
    from picoquant.backends.onnx.export import exact_onnx, write_onnx_form

    source = Source(folder)
    with_nms = len(source.facts.outputs[0][1]) == 2
    if not source.quantised and (device != "cpu" or with_nms):
        yield open_predictor(folder, device)
        return
    with TemporaryDirectory(prefix="picoquant-evaluate-") as scratch:
        path = Path(scratch) / "model.onnx"
        try:
            if source.quantised:
                write_onnx(exact_onnx(source.network), path)
            else:
                write_onnx_form(source, path)
            predictor: Any = OnnxPredictor(path, at_once=available_cpus())
        except ToolError as error:
            LOG.info("evaluate: %s runs in Paddle's runtime, which is slower: %s", folder.path, error)
            predictor = open_predictor(folder, device)
        yield predictor


def trained_network(context: Context, dataset: Dataset) -> Running:
    """The trained network itself: `Global.weights`, or the best of the run.

    Args:
        context: the recipe, and the run where there is one.
        dataset: whose classes weights from outside a run are taken to have.

    Raises: `UserError` when there are no weights.
    """
    weights, labels = trained_weights(context), trained_classes(context, dataset)
    say_classes(context.plan, labels, str(dataset.annotation_file))
    use_device(context.device)
    network = load_trained(context.plan, len(labels), weights)
    decoder = Decoder("boxes", context.plan.nms)
    size = weights.stat().st_size
    return Running(DYGRAPH, "fp32", dygraph_predictor(network), decoder, size, labels=labels)
