"""A full-integer `.tflite` in LiteRT, on the CPU: called with float images as every other runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.base import Exported, Found, Machine
from picoquant.backends.own_process import OwnProcess
from picoquant.backends.tflite.layout import Layout
from picoquant.errors import ToolError
from picoquant.utils.batching import in_batches
from picoquant.utils.device import available_cpus


@contextmanager
def open_files(made: Exported, tool: Found, machine: Machine) -> Iterator[OwnProcess]:
    """A `.tflite` in LiteRT, in a process of its own, see `base.Runtime`; without XNNPACK where the machine says so."""
    xnnpack = "xnnpack" not in machine.without
    with OwnProcess("LiteRT", TflitePredictor, made.files[0], machine.threads, xnnpack) as predict:
        yield predict


class TflitePredictor:
    """A `.tflite` for one image with integer inputs and outputs.

    Attributes:
        input_names: what a feed must hold.
        inputs, outputs: names and shapes, inputs as Paddle has them (`[N, C, H, W]`); the batch is -1.

    Args:
        path: the file.
        threads: CPU threads; 0 for all.
        xnnpack: whether XNNPACK computes what it can; otherwise LiteRT's own kernels do.

    Raises: `ToolError` with LiteRT's word when it does not take the file.
    """

    def __init__(self, path: Path, threads: int = 0, xnnpack: bool = True) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._name = Path(path).name
        kernels = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            # From memory: an interpreter maps a file, and a process dies when a mapped file becomes shorter.
            self._interpreter = Interpreter(
                model_content=Path(path).read_bytes(),
                num_threads=threads or available_cpus(),
                experimental_op_resolver_type=kernels,
            )
            self._interpreter.allocate_tensors()
        except OSError as error:
            raise ToolError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, RuntimeError) as error:
            raise self._refusal(error) from error
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        for details in (*self._inputs, *self._outputs):
            if np.dtype(details["dtype"]).kind != "i" or not details["quantization"][0]:
                raise ToolError(f"{self._name} is not full integer: {details['name']} has no scale")
        self.inputs = tuple((details["name"], _paddles(details)) for details in self._inputs)
        self.input_names = tuple(name for name, _ in self.inputs)
        self.outputs = tuple(
            (details["name"], (-1, *map(int, details["shape"][1:]))) for details in self._outputs
        )

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, image by image.

        Raises: `ToolError` when LiteRT refuses it.
        """
        return in_batches(self._run, feed, 1)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        integers = [quantised(feed[details["name"]], details) for details in self._inputs]
        return [
            dequantised(value, details) for value, details in zip(self.run_integers(integers), self._outputs)
        ]

    def run_integers(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """One image in the file's own integers and layout.

        Raises: `ToolError` when LiteRT refuses it.
        """
        try:
            for details, value in zip(self._inputs, inputs):
                self._interpreter.set_tensor(details["index"], value)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise self._refusal(error) from error
        return [self._interpreter.get_tensor(details["index"]) for details in self._outputs]

    def _refusal(self, error: Exception) -> ToolError:
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        return ToolError(f"LiteRT does not run {self._name}: {reason}")


def quantised(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """Float values `[1, C, H, W]` as a file's input: integers, channels last, halves away from zero."""
    scale, zero_point = details["quantization"]
    limits = np.iinfo(details["dtype"])
    scaled = Layout.of(values.shape).store(np.asarray(values, np.float32)) / np.float32(scale)
    rounded = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled) + zero_point
    return np.clip(rounded, limits.min, limits.max).astype(details["dtype"])


def dequantised(integers: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """A file's output as float32."""
    scale, zero_point = details["quantization"]
    return (integers.astype(np.float32) - zero_point) * np.float32(scale)


def _paddles(details: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of an input as Paddle has it."""
    shape = [int(size) for size in details["shape"]]
    layout = Layout.of(shape)
    return (-1, *(shape[layout.order.index(axis)] for axis in range(1, layout.rank)))
