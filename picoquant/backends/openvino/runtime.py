"""A model in OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.base import Exported, Found, Machine, Tensors
from picoquant.backends.openvino.errors import reason
from picoquant.backends.openvino.instructions import adds_exactly
from picoquant.backends.openvino.quiet import import_openvino
from picoquant.errors import ToolError
from picoquant.utils.batching import in_batches


@contextmanager
def open_files(made: Exported, tool: Found, machine: Machine) -> Iterator[OpenvinoPredictor]:
    """An IR in OpenVINO, see `base.Runtime`."""
    yield OpenvinoPredictor(made.files[0], machine.threads)


def properties(threads: int = 0, exact: bool = True) -> dict[str, Any]:
    """OpenVINO's properties for a network that computes what it says, one call at a time.

    Without the hint OpenVINO computes what is in float as bfloat16 where the CPU has it (`inference_precision` in its
    documentation), which is another model: on bccd 0.4 points of mAP.

    Args:
        threads: CPU threads; 0 for as many as OpenVINO takes.
        exact: whether the CPU adds INT8 exactly, see `instructions.adds_exactly`; else INT8 is computed in float, with
            the same results and slower.
    """
    chosen: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        chosen["INFERENCE_NUM_THREADS"] = threads
    if not exact:
        chosen["LP_TRANSFORMS_MODE"] = "NO"
    return chosen


class OpenvinoPredictor:
    """A model, float or INT8.

    Attributes:
        input_names: what a feed must hold.
        inputs, outputs: names and shapes, -1 for a size that may vary.
        path: the model's `.xml`.

    Args:
        path: the `.xml`, its `.bin` beside it.
        threads: CPU threads; 0 for as many as OpenVINO takes.

    Raises: `ToolError` when OpenVINO does not take it.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        openvino = import_openvino()
        self.path = Path(path)
        try:
            compiled = openvino.Core().compile_model(path, "CPU", properties(threads, adds_exactly()))
        except Exception as error:  # OpenVINO's are RuntimeErrors and others
            raise self._refusal(error) from error
        self._request = compiled.create_infer_request()
        self.inputs: Tensors = tuple(map(_described, compiled.inputs))
        self.outputs: Tensors = tuple(map(_described, compiled.outputs))
        self.input_names = tuple(name for name, _ in self.inputs)
        first = self.inputs[0][1]
        self._batch = first[0] if first else -1

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch of any size.

        Raises: `ToolError` when OpenVINO refuses it.
        """
        return in_batches(self._run, feed, self._batch)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        given = {name: np.ascontiguousarray(feed[name]) for name in self.input_names}
        try:
            # Its results are copied below, once: the next call writes into the same memory.
            found = self._request.infer(given, share_inputs=True, share_outputs=True)
        except Exception as error:
            raise self._refusal(error) from error
        return [np.array(value) for value in found.values()]

    def _refusal(self, error: Exception) -> ToolError:
        return ToolError(f"OpenVINO does not run {self.path.name}: {reason(error)}")


def _described(port: Any) -> tuple[str, tuple[int, ...]]:
    sizes = (size.get_length() if size.is_static else -1 for size in port.get_partial_shape())
    return port.get_any_name(), tuple(sizes)
