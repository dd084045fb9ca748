"""Functions of one tensor over all 256 levels, with many scales, and ReLU6 behind convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from picoquant.backends.verisilicon.description import Description, Form
from picoquant.int8.functions import function_of
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation.arithmetic import shader_table, table

LEVELS = np.arange(-128, 128)
_ROW = LEVELS.reshape(1, 1, 256)
_IDENTITY = 64  # a weight of this level with the scale 1/64
# Scales with which 6 is between two points of the table, on one, the last level, or beyond it.
_RELU6 = (
    *(6 / 127 * part for part in (1, 1.0005, 0.9995)),
    *(0.0471, 0.0472, 0.0473, 0.05, 0.04, 0.03, 0.06, 0.02),
    *(6 / levels for levels in (126.4, 126.6, 120.3, 120.7)),
)
_INPUTS = (0.06, 0.03, 0.1, 0.047, 0.0213, 0.071, 0.155)
_RESULTS = {
    "sigmoid": ((1 / 127, 0), (1 / 127, None), (1 / 256, None), (1 / 256, 0), (0.0078, 0), (0.0061, 0)),
    "hard_sigmoid": ((1 / 127, None), (0.0078, None), (0.005, None)),
    "hard_swish": ((0.0501, None), (0.031, None), (0.02, None)),
}
_PARAMETERS = {"hard_sigmoid": (1 / 6, 0.5)}
_ATTRIBUTES = {"hard_sigmoid": {"slope": 1 / 6, "offset": 0.5}}


@dataclass(frozen=True)
class Table:
    """A function of all levels.

    Attributes:
        kind: type of the operator.
        behind: `conv` or `depthwise`: behind a convolution that changes nothing; empty: alone.
        source, result: scales.
        zero_point: of the result; None: the form's.
    """

    kind: str
    behind: str
    source: float
    result: float
    zero_point: int | None = None

    @property
    def name(self) -> str:
        """Of its result, in the stored file."""
        return "|".join(map(str, (self.kind, self.behind, self.source, self.result, self.zero_point)))

    def describe(self, network: Description) -> None:
        """Add it to a network."""
        values = self.values()
        source = network.input(self.name, values.shape, self.source)
        parameters = _PARAMETERS.get(self.kind, ())
        if self.behind:
            source = self._convolution(network, source)
        shape = (4, 1, 256) if self.behind == "conv" else values.shape
        result = network.output(self.name, shape, self.result, self.zero_point)
        network.node(self.kind, parameters, [source], [result], self.name)

    def values(self) -> np.ndarray:
        """All levels; in eight channels of eight rows before a depthwise convolution."""
        return np.broadcast_to(_ROW, (8, 8, 256)) if self.behind == "depthwise" else _ROW

    def simulate(self, form: Form, points: int | None) -> np.ndarray:
        """The result for each of the 256 levels."""
        zero = form.zero_point if self.zero_point is None else self.zero_point
        signed = form.name == "i8"
        source = QuantParams(self.source, form.zero_point, signed=signed, narrow=False)
        result = QuantParams(self.result, zero, signed=signed, narrow=False)
        if form.per_channel:  # on shaders
            return shader_table(self._function(), source, result, "half_to_even")
        return table(self._function(), source, result, "half_to_even", points)

    def _function(self) -> Callable:
        function = function_of(self.kind, _ATTRIBUTES.get(self.kind, {}))
        assert function is not None
        return function

    def _convolution(self, network: Description, source: int) -> int:
        depthwise = self.behind == "depthwise"
        channels, size = (8, 3) if depthwise else (4, 1)
        weight = np.zeros((channels, 1, size, size), np.int64)
        weight[:, :, size // 2, size // 2] = _IDENTITY
        scales = np.full(channels, 1 / _IDENTITY, np.float32)
        inputs = [
            source,
            network.weight(weight, scales, depthwise),
            network.bias(np.zeros(channels, np.int64), scales * np.float32(self.source)),
        ]
        inner = network.between((8, 8, 256) if depthwise else (4, 1, 256), self.source)
        window = [size, size, 1, 1, *[size // 2] * 4, 1, 1, channels]
        network.node(self.behind, window, inputs, [inner], self.name)
        return inner


def _single(value: float) -> float:
    return float(np.float32(value))


def tables(form: Form) -> list[Table]:
    """All of them; INT8 tensors have no other zero point than 0."""
    found = [
        Table("relu6", behind, _single(scale), _single(scale))
        for scale in _RELU6
        for behind in ("", "conv", "depthwise")
    ]
    found += [
        Table(kind, "", _single(source), _single(result), zero)
        for source in _INPUTS
        for kind, results in _RESULTS.items()
        for result, zero in results
        if form.name == "u8" or zero is None
    ]
    return found


def network_of(form: Form) -> tuple[Description, dict[str, np.ndarray]]:
    """All tables in one network, and its inputs."""
    network = Description(form)
    for one in tables(form):
        one.describe(network)
    return network, {one.name: one.values() for one in tables(form)}
