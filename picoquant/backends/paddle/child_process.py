"""Run a network in a process of its own: for evaluation in the middle of training, FP32 or QAT.

Creating a predictor of paddle 2.6 empties the process's cache of oneDNN's objects, but what the training's
programs have in it is never freed: each evaluation in the training's own process costs it one more set of
activations (QAT of PicoDet-S-NPU at 96 x 96, 4 images: 11 MB). Exporting there costs some too.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from picoquant.detector.settings import DetectorSettings
from picoquant.errors import PicoquantError
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.utils.subprocesses import own_environment

_MODELS = 16  # that one child opens


class _Child:
    """A process that starts when first asked and ends with this object or this process.

    The child ends when its input is closed, so also when this process is killed.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._child is not None:
            for pipe in (self._child.stdin, self._child.stdout):
                with suppress(BrokenPipeError):  # the child has ended before
                    pipe.close()
            self._child.wait()
            self._child = None

    def _start(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "picoquant.backends.paddle.child_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=own_environment(),
        )

    def _ask(self, what: str, value: Any) -> Any:
        if self._child is None:
            self._start()
        try:
            _send(self._child.stdin, (what, value))
            failure, answer = pickle.load(self._child.stdout)  # our own child's words
        except (BrokenPipeError, EOFError, pickle.UnpicklingError) as error:
            code = self._child.wait()
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
        if self._child is None:
            self._ask("network", self._network)
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


def _send(stream: BinaryIO, value: Any) -> None:
    pickle.dump(value, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer what `ChildPredictor` asks until it asks no more."""
    import paddle

    from picoquant.backends.paddle.compiled import compiled_predictor
    from picoquant.backends.paddle.runtime import open_predictor
    from picoquant.detector.build import build_picodet

    paddle.set_device("cpu")
    model = predict = size = None
    while True:
        try:
            what, value = pickle.load(questions)
        except EOFError:
            return
        answer, failure = None, ""
        try:
            if what == "network":
                detector, size = value
                model = build_picodet(detector)
                model.eval()
            elif what == "weights":
                model.set_state_dict(value)
                predict = compiled_predictor(model, size)
            elif what == "model":
                predict = open_predictor(value)
            else:
                answer = predict(value)
        except Exception:  # goes to the parent, which raises it
            failure = traceback.format_exc()
        try:
            _send(answers, (failure, answer))
        except BrokenPipeError:  # nobody waits for it any more
            return


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides; it closes our input
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()
