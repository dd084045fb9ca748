"""A `.mnn` in MNN, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.base import Exported, Found, Machine, Tensors
from picoquant.backends.own_process import OwnProcess
from picoquant.errors import ToolError
from picoquant.utils.batching import in_batches
from picoquant.utils.device import available_cpus


@contextmanager
def open_files(made: Exported, tool: Found, machine: Machine) -> Iterator[OwnProcess]:
    """A `.mnn` in MNN, in a process of its own, see `base.Runtime`."""
    with OwnProcess("MNN", MnnPredictor, made.files[0], machine.threads) as predict:
        yield predict


class MnnPredictor:
    """A model for one image, float or INT8; what is in float is computed in float32.

    Attributes:
        input_names: what a feed must hold.
        inputs, outputs: names and shapes; the batch is -1.

    Args:
        path: the `.mnn`.
        threads: CPU threads; 0 for all.

    Raises: `ToolError` when MNN does not take it.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        import MNN

        self._mnn, self._path = MNN, path
        settings = {"backend": "CPU", "precision": "high", "numThread": threads or available_cpus()}
        try:
            path.open("rb").close()
            self._net = MNN.Interpreter(str(path))
            self._session = self._net.createSession(settings)
            self._given = self._net.getSessionInputAll(self._session)
            self._found = self._net.getSessionOutputAll(self._session)
        except OSError as error:
            raise ToolError(f"cannot read {path}: {error.strerror or error}") from error
        except Exception as error:  # MNN's are ValueErrors, RuntimeErrors and others
            raise self._refusal() from error
        if not self._given or not self._found:
            raise self._refusal()
        self.inputs, self.outputs = _described(self._given), _described(self._found)
        self.input_names = tuple(name for name, _ in self.inputs)

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, image by image; images are of the model's size."""
        return in_batches(self._run, feed, 1)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        for name, tensor in self._given.items():
            tensor.copyFrom(self._tensor(np.ascontiguousarray(feed[name], np.float32)))
        self._net.runSession(self._session)
        found = []
        for name, shape in self.outputs:
            value = np.zeros((1, *shape[1:]), np.float32)
            host = self._tensor(value)
            self._found[name].copyToHostTensor(host)
            found.append(np.array(host.getNumpyData(), np.float32).reshape(value.shape))
        return found

    def _tensor(self, value: np.ndarray) -> Any:
        """A tensor of MNN's in Paddle's order, with a value."""
        order = self._mnn.Tensor_DimensionType_Caffe
        return self._mnn.Tensor(value.shape, self._mnn.Halide_Type_Float, value, order)

    def _refusal(self) -> ToolError:
        return ToolError(f"MNN does not take {self._path}: make it again with this version of picoquant")


def _described(tensors: Mapping[str, Any]) -> Tensors:
    """Names and shapes; outputs are numbered by their names."""
    return tuple((name, (-1, *tensors[name].getShape()[1:])) for name in sorted(tensors))
