"""Run a network in a process of its own: for evaluation in the middle of training, FP32 or QAT.

Creating a predictor of paddle 2.6 empties the process's cache of oneDNN's objects, but what the training's
programs have in it is never freed: each evaluation in the training's own process costs it one more set of
activations (QAT of PicoDet-S-NPU at 96 x 96, 4 images: 11 MB). Exporting there costs some too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.detector.settings import DetectorSettings
from picoquant.errors import PicoquantError
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.utils.subprocesses import own_environment
from picoquant.utils.worker import Worker, WorkerEnded

_MODELS = 16  # that one child opens
_WORKER = Path(__file__).with_name("evaluation_worker.py")


class _Child:
    """A process that starts when first asked and ends with this object or this process, see `Worker`."""

    def __init__(self) -> None:
        self._worker = Worker(_WORKER, (), Path(sys.executable), own_environment())

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next question starts another."""
        self._worker.close()

    def _ask(self, *question: Any) -> Any:
        """What a method of `evaluation_worker.Evaluator` returns: its name, then its arguments."""
        try:
            failure, answer = self._worker.ask(question)
        except WorkerEnded as error:
            code = error.outcome.code
            raise PicoquantError(f"the process that evaluates ended with code {code}; run again") from error
        if failure:
            raise PicoquantError(f"the process that evaluates failed:\n{failure}")
        return answer


class ChildPredictor(_Child):
    """A network that is being trained, compiled, in a child process.

    Takes a feed and gives `boxes [N, L, 4]` in input pixels and `scores [N, C, L]`, as `compiled_predictor`
    does.

    Args:
        detector: what the network is built from.
        input_size: height and width of the images.
    """

    input_names = ("image",)

    def __init__(self, detector: DetectorSettings, input_size: Sequence[int]) -> None:
        super().__init__()
        self._network = (detector, tuple(input_size))

    def load(self, network: Any) -> None:
        """Predict with the weights that a network has now.

        Raises: `PicoquantError` when the child fails.
        """
        if not self._worker.started:
            self._ask("network", *self._network)
        self._ask("weights", {name: value.numpy() for name, value in network.state_dict().items()})

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch of any size.

        Raises: `PicoquantError` when the child fails.
        """
        return self._ask("run", {"image": feed["image"]})


class ChildRuntime(_Child):
    """Exported models, one after the other, in Paddle's inference runtime in a child process.

    Each model costs the child 0.2 MB that Paddle does not give back, so it is replaced now and then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._opened = 0

    def open(self, folder: ModelFolder) -> Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]:
        """What runs a model, as `open_predictor` opens it, until the next one is opened.

        Raises: `PicoquantError` when the child fails.
        """
        if self._opened == _MODELS:
            self.close()
            self._opened = 0
        self._opened += 1
        self._ask("model", folder)
        return lambda feed: self._ask("run", dict(feed))
