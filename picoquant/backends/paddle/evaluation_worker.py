"""The evaluation's side of `child_process.py`: `utils/serve.py` runs this file in a process of its own."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np

from picoquant.backends.paddle.compiled import compiled_predictor
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.detector.build import build_picodet
from picoquant.detector.resizing import take_shapes
from picoquant.detector.settings import DetectorSettings
from picoquant.paddle_program.model_folder import ModelFolder


class Evaluator:
    """Holds the network that is evaluated; its methods are what the parent may ask for."""

    def network(self, detector: DetectorSettings, size: tuple[int, int]) -> None:
        """Build a network for images of a size."""
        self._network, self._size = build_picodet(detector), size
        self._network.eval()

    def weights(self, values: Mapping[str, np.ndarray]) -> None:
        """Compile the network with these weights; they may have fewer filters than its settings say."""
        take_shapes(self._network, {name: value.shape for name, value in values.items()})
        self._network.set_state_dict(values)
        self._predict = compiled_predictor(self._network, self._size)

    def model(self, folder: ModelFolder) -> None:
        """Open an exported model."""
        self._predict = open_predictor(folder)

    def run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs of what was compiled or opened last."""
        return self._predict(feed)


def answerer() -> Callable[[tuple], tuple[str, Any]]:
    """What answers `(method, *arguments)` with the traceback of a failure, or an empty text and the result."""
    import paddle

    paddle.set_device("cpu")
    evaluator = Evaluator()

    def answer(question: tuple) -> tuple[str, Any]:
        what, *arguments = question
        try:
            return "", getattr(evaluator, what)(*arguments)
        except Exception:  # goes to the parent, which raises it
            return traceback.format_exc(), None

    return answer
