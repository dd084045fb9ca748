"""The network of an `.rknn` in rknn-toolkit2's simulator, which takes no `.rknn`: it builds its ONNX again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from picoquant.backends.base import Exported, Machine, Tensors
from picoquant.backends.onnx.files import read_onnx
from picoquant.backends.rknn.form import as_paddle_has_them, properties
from picoquant.backends.rknn.toolchain import Toolkit
from picoquant.backends.rknn.toolkit import Session
from picoquant.errors import ToolError, WeightsError
from picoquant.storage.files import sha256
from picoquant.utils.batching import in_batches


@contextmanager
def open_files(made: Exported, tool: Toolkit, machine: Machine) -> Iterator[SimulatorPredictor]:
    """An `.rknn` and its ONNX in the simulator, see `base.Runtime`.

    Raises: `WeightsError` when the two do not belong together, `ToolError` with the toolkit's word.
    """
    file, form = made.files
    model = read_onnx(form)
    outputs, platform, digest = properties(model, str(form))
    try:
        same = sha256(file) == digest
    except OSError as error:
        raise ToolError(f"cannot read {file}: {error.strerror or error}") from error
    if not same:
        raise WeightsError(
            f"{file} is not what was built from {form.name}: export or package the model again"
        )
    inputs = tuple(
        (item.name, tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim))
        for item in model.graph.input
    )
    with Session(tool) as session:
        session.simulate(form, platform)
        yield SimulatorPredictor(session, inputs, outputs)


class SimulatorPredictor:
    """A network in the simulator, for one image a time.

    Args:
        session: into which it is loaded.
        inputs, outputs: names and shapes, as Paddle has them.

    Attributes:
        network_seconds: how long the simulator itself took in the last call; it is no time of a board.
    """

    def __init__(self, session: Session, inputs: Tensors, outputs: Tensors) -> None:
        self._session, self.inputs = session, inputs
        self.outputs: Tensors = tuple((name, (-1, *shape[1:])) for name, shape in outputs)
        self.input_names = tuple(name for name, _ in inputs)
        self.network_seconds = 0.0

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, image by image.

        Raises: `ToolError` when an image has another size, or with the toolkit's word.
        """
        self._sum = 0.0
        outputs = in_batches(self._run, feed, 1)
        self.network_seconds = self._sum
        return outputs

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        for name, shape in self.inputs:
            if feed[name].shape != shape:
                raise ToolError(
                    f"the .rknn takes {name} as {list(shape)}, not {list(feed[name].shape)}: export it for that size"
                )
        seconds, values = self._session.run([feed[name] for name in self.input_names])
        self._sum += seconds
        return as_paddle_has_them(values, self.outputs)
