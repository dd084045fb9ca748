"""A network that is loaded into a tool's process, called like every other runtime's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from picoquant.backends.base import Tensors
from picoquant.errors import ToolError
from picoquant.utils.batching import in_batches


class Running(Protocol):
    """What runs one image: a tool's `Session`."""

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """Seconds that it took, and the outputs."""


class SessionPredictor:
    """A network in a tool's simulator, for one image a time.

    Args:
        session: into which it is loaded.
        inputs, outputs: names and shapes, as Paddle has them.
        suffix: of the file that it is of, for messages.
        shaped: makes Paddle's outputs of the tool's; None: they are.

    Attributes:
        network_seconds: how long the simulator itself took in the last call; it is no time of a board.
    """

    def __init__(
        self,
        session: Running,
        inputs: Tensors,
        outputs: Tensors,
        suffix: str,
        shaped: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None,
    ) -> None:
        self._session, self._suffix, self._shaped = session, suffix, shaped
        self.inputs = inputs
        self.outputs: Tensors = tuple((name, (-1, *shape[1:])) for name, shape in outputs)
        self.input_names = tuple(name for name, _ in inputs)
        self.network_seconds = 0.0

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, image by image.

        Raises: `ToolError` when an image has another size, or with the tool's word.
        """
        self._sum = 0.0
        outputs = in_batches(self._run, feed, 1)
        self.network_seconds = self._sum
        return outputs

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        for name, shape in self.inputs:
            if feed[name].shape != shape:
                raise ToolError(
                    f"the {self._suffix} takes {name} as {list(shape)}, not {list(feed[name].shape)}: "
                    "export it for that size"
                )
        seconds, values = self._session.run([feed[name] for name in self.input_names])
        self._sum += seconds
        return values if self._shaped is None else self._shaped(values)
