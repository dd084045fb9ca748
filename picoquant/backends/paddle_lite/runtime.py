"""Run a model in Paddle Lite's x86 runtime, which lives in the environment of its opt (Python 3.10 or 3.8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from picoquant.backends.base import Exported, Machine, Tensors
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.errors import ToolError
from picoquant.utils.batching import in_batches
from picoquant.utils.program_log import blame
from picoquant.utils.subprocesses import clean_environment
from picoquant.utils.worker import Worker, WorkerEnded

_WORKER = Path(__file__).with_name("runtime_worker.py")


@contextmanager
def open_files(made: Exported, tool: OptTool, machine: Machine) -> Iterator[X86Predictor]:
    """A `.nb` in Paddle Lite's x86 runtime, see `base.Runtime`; a damaged one is refused when it is called."""
    names = tuple(name for name, _ in made.inputs)
    with X86Predictor(tool.python, made.files[0], names, made.outputs) as predict:
        yield predict


class X86Predictor:
    """A `.nb` in Paddle Lite's x86 runtime, in one process for all images; for one image a time.

    Use it in a `with`: the process ends then, or with this one.

    Args:
        python: see `OptTool.python`.
        model: a `.nb` that opt made for x86.
        input_names: of the model, in its order.
        outputs: names and shapes. The second of detections, how many each image has, is int32; all others are float32.

    Attributes:
        network_seconds: how long the network itself took in the last call; handing values over, which takes
            longer than with any other runtime, does not count.
    """

    def __init__(self, python: Path, model: Path, input_names: tuple[str, ...], outputs: Tensors) -> None:
        self.input_names, self.outputs = input_names, outputs
        self.network_seconds = 0.0
        inside = len(outputs[0][1]) == 2  # NMS: detections [M, 6] and their number
        self._kinds = "".join("i" if inside and index == 1 else "f" for index in range(len(outputs)))
        arguments = (str(model), self._kinds)
        self._worker = Worker(_WORKER, arguments, python, clean_environment(), model.parent, keep_stderr=True)

    def __enter__(self) -> X86Predictor:
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, image by image.

        Raises: `ToolError` with Paddle Lite's own word when the runtime dies of it.
        """
        self._sum = 0.0
        outputs = in_batches(self._run, feed, 1)
        self.network_seconds = self._sum
        return outputs

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        values = [np.ascontiguousarray(feed[name], "<f4") for name in self.input_names]
        try:
            seconds, results = self._worker.ask([(value.shape, value.tobytes()) for value in values])
        except WorkerEnded as error:
            said = blame(error.outcome.text) or "no message"
            raise ToolError(
                f"Paddle Lite's x86 runtime did not run the model ({error.outcome.ended}): {said}"
            ) from error
        self._sum += seconds
        return [
            np.frombuffer(content, f"<{kind}4").reshape(shape)
            for kind, (shape, content) in zip(self._kinds, results)
        ]
