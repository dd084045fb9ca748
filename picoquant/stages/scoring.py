"""How well the INT8 models that a quantisation tries detect: mAP, and fidelity to the FP32 model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from picoquant.backends.paddle.runtime import decoder_for
from picoquant.evaluation.evaluate import Evaluation
from picoquant.evaluation.fidelity import SCORE, agreement, detections_as_objects
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.postprocess.decoder import Decoder
from picoquant.quantization.score import Score
from picoquant.stages.evaluating import EvaluationImages, evaluate_model, open_quickly

LOG = logging.getLogger("picoquant")


class Scoring:
    """Evaluates models on the same images.

    Args:
        decoder: fits the outputs of all of them.
        input_names: what they are fed with.
        images: to evaluate on.
        reference: the FP32 model that fidelity compares with, evaluated when it is first needed; None: mAP alone is
            measured.
        device: of the FP32 model where ONNX Runtime does not take it.
    """

    def __init__(
        self,
        decoder: Decoder,
        input_names: Sequence[str],
        images: EvaluationImages,
        reference: ModelFolder | None,
        device: str,
    ) -> None:
        self._decoder, self._names, self._images = decoder, tuple(input_names), images
        self._reference, self._device = reference, device

    def __call__(self, predict: Callable[[Any], Any]) -> Score:
        """Evaluate a model, `predict(feed) -> [array]`."""
        named = _Predictor(predict, self._names)
        found = evaluate_model(named, self._decoder, self._images, "evaluate INT8")
        if self._reference is None:
            return Score(found.metrics["mAP"])
        ids = self._images.dataset.image_ids
        return Score(found.metrics["mAP"], agreement(self._expected, found.detections, ids))

    @cached_property
    def _expected(self) -> Mapping[str, Any]:
        """What the FP32 model detects, as annotations."""
        evaluated = self._evaluated(self._reference)
        found = detections_as_objects(self._images.dataset.ground_truth(), evaluated.detections)
        if not found["annotations"]:
            LOG.info(
                "quantize: FP32 detects nothing with a score of %g or more on the evaluation images: states are "
                "compared by mAP alone",
                SCORE,
            )
        return found

    def _evaluated(self, folder: ModelFolder) -> Evaluation:
        with open_quickly(folder, self._device) as predictor:
            decoder = decoder_for(predictor, folder.config, self._decoder.nms)
            return evaluate_model(predictor, decoder, self._images, "evaluate FP32")


class _Predictor:
    """A function that predicts, and what it must be fed with."""

    def __init__(self, predict: Callable[[Any], Any], input_names: tuple[str, ...]) -> None:
        self._predict, self.input_names = predict, input_names
        self.in_any_thread = getattr(predict, "in_any_thread", False)

    def __call__(self, feed: Any) -> Any:
        return self._predict(feed)
