"""The operators of the small test networks in NumPy, convolutions on integers where the file has them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from picoquant.backends.base import Exported, Found, Machine
from picoquant.errors import ToolError
from picoquant.utils.batching import in_batches


@contextmanager
def open_files(made: Exported, tool: Found, machine: Machine) -> Iterator[NumpyPredictor]:
    """A `.npz` of `export`, see `base.Runtime`."""
    try:
        with np.load(made.files[0], allow_pickle=False) as stored:
            arrays = dict(stored)
        operators = json.loads(str(arrays.pop("operators")))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ToolError(f"{made.files[0]} is no model for NumPy or is damaged: export it again") from error
    yield NumpyPredictor(made, operators, arrays)


class NumpyPredictor:
    """See `base.Predictor`."""

    def __init__(self, made: Exported, operators: list[dict], arrays: Mapping[str, np.ndarray]) -> None:
        self.input_names = tuple(name for name, _ in made.inputs)
        self.outputs = made.outputs
        self._operators, self._arrays = operators, arrays

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return in_batches(self._run, feed, 1)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        held = {name[6:]: value for name, value in self._arrays.items() if name.startswith("value/")}
        held.update(feed)
        for op in self._operators:
            inputs = {slot: held[name] for slot, name in op["inputs"].items() if name in held}
            held[op["output"]] = self._computed(op, inputs).astype(np.float32)
        return [held[name] for name, _ in self.outputs]

    def _computed(self, op: dict, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        kind = op["type"]
        if kind in ("conv2d", "depthwise_conv2d"):
            if "step" not in op:
                return _convolved(inputs["Input0"], inputs["Filter0"], op)
            steps = np.clip(np.rint(inputs["Input0"] / np.float32(op["step"])), -127, 127)
            sums = _convolved(steps, self._arrays[f"integers/{op['output']}"].astype(np.float64), op)
            return sums * (op["step"] * self._arrays[f"scales/{op['output']}"]).reshape(1, -1, 1, 1)
        x = inputs["X0"]
        if kind == "batch_norm":
            mean, variance, factor, shift = (
                inputs[slot].reshape(1, -1, 1, 1) for slot in ("Mean0", "Variance0", "Scale0", "Bias0")
            )
            return (x - mean) / np.sqrt(variance + op["epsilon"]) * factor + shift
        if kind in ("elementwise_add", "elementwise_mul"):
            y = inputs["Y0"]
            if op["axis"] >= 0:
                y = y.reshape(y.shape + (1,) * (x.ndim - op["axis"] - y.ndim))
            return x + y if kind == "elementwise_add" else x * y
        if kind == "reshape2":
            return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(op["shape"])])
        simple = {
            "relu6": lambda: np.clip(x, 0, 6),
            "scale": lambda: x * op["scale"] + op["bias"],
            "sigmoid": lambda: 1 / (1 + np.exp(-np.clip(x.astype(np.float64), -700, 700))),
            "transpose2": lambda: x.transpose(op["axis"]),
        }
        return simple[kind]()


def _convolved(x: np.ndarray, weight: np.ndarray, op: dict) -> np.ndarray:
    """`[1, C, H, W]` with `[O, C, kh, kw]`, or depthwise with `[C, 1, kh, kw]`."""
    (down, right), (top, left) = op["strides"], op["paddings"][:2]
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    windows = sliding_window_view(padded, weight.shape[2:], (2, 3))[:, :, ::down, ::right]
    if op["type"] == "depthwise_conv2d":
        return np.einsum("nchwij,cij->nchw", windows, weight[:, 0])
    return np.einsum("nchwij,ocij->nohw", windows, weight)
