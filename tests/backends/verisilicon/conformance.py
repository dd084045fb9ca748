"""Small operators with fixed inputs, as the emulator's networks and as the simulation computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from picoquant.backends.verisilicon.description import Description, Form
from picoquant.int8.functions import function_of
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation import operators
from picoquant.npu.simulation.arithmetic import Requantiser, shader_table, table
from picoquant.npu.simulation.convolution import Geometry, convolve
from picoquant.targets.integer_rules import Arithmetic, Rules

LEVELS = np.arange(-128, 128)
_ANY = Rules(Arithmetic("uint8", "half_to_even", None))
_RANDOM = np.random.RandomState(7)
_IMAGE = _RANDOM.randint(-128, 128, (16, 9, 9))
f32 = np.float32


def params_of(scale: float, form: Form) -> QuantParams:
    return QuantParams(float(f32(scale)), form.zero_point, signed=form.zero_point == 0, narrow=False)


@dataclass(frozen=True)
class Convolution:
    """A convolution; its scales are those of the input, the weight (first channel's) and the result."""

    name: str
    image: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    scales: tuple[float, float, float]
    stride: int = 1
    padding: int = 0
    depthwise: bool = False
    relu: bool = False

    def weight_scales(self, form: Form) -> np.ndarray:
        """One for each result where the form has that, up to three times the first."""
        spread = np.linspace(1, 3, len(self.weight)) if form.per_channel else np.ones(len(self.weight))
        return f32(self.scales[1] * spread)

    def inputs(self) -> dict[str, np.ndarray]:
        return {self.name: self.image}

    def shape(self) -> tuple[int, int, int]:
        kernel = self.weight.shape[2]
        height, width = (
            (size + 2 * self.padding - kernel) // self.stride + 1 for size in self.image.shape[1:]
        )
        return len(self.weight), height, width

    def describe(self, network: Description) -> None:
        kernel = self.weight.shape[2]
        scales = self.weight_scales(network.form)
        source = network.input(self.name, self.image.shape, self.scales[0])
        weight = network.weight(self.weight, scales, self.depthwise)
        bias = network.bias(self.bias, scales * f32(self.scales[0]))
        window = [kernel, kernel, self.stride, self.stride, *[self.padding] * 4, 1, 1, len(self.weight)]
        kind = "depthwise" if self.depthwise else "conv"
        if self.relu:
            inner = network.between(self.shape(), self.scales[2])
            network.node(kind, window, [source, weight, bias], [inner], self.name)
            result = network.output(self.name, self.shape(), self.scales[2])
            network.node("relu", [], [inner], [result], self.name)
            return
        result = network.output(self.name, self.shape(), self.scales[2])
        network.node(kind, window, [source, weight, bias], [result], self.name)

    def simulate(self, form: Form, rules: Rules) -> np.ndarray:
        groups = len(self.weight) if self.depthwise else 1
        geometry = Geometry((self.stride,) * 2, (self.padding,) * 4, (1, 1), groups)
        sums = convolve(self.image, self.weight.astype(np.float64), geometry).astype(np.int64)
        source, result = (float(f32(self.scales[index])) for index in (0, 2))
        weights, limits = self.weight_scales(form).astype(np.float64), (0 if self.relu else -128, 127)
        if form.per_channel:  # as `npu/simulation/steps.py`
            requantise = Requantiser.of_channels(weights, source, result, rules, *limits)
        else:
            requantise = Requantiser.of(source * weights / result, rules, *limits)
        return requantise(sums + self.bias[:, None, None])


@dataclass(frozen=True)
class Values:
    """An operator of one or two tensors; `compute` is the simulation's."""

    name: str
    node: str
    parameters: tuple[float, ...]
    sources: tuple[tuple[np.ndarray, float], ...]
    scale: float
    compute: Callable

    def inputs(self) -> dict[str, np.ndarray]:
        return {f"{self.name} {number}": values for number, (values, _) in enumerate(self.sources)}

    def describe(self, network: Description) -> None:
        inputs = [
            network.input(name, values.shape, scale)
            for name, (values, scale) in zip(self.inputs(), self.sources)
        ]
        shape = self.simulate(network.form, None).shape
        result = network.output(self.name, shape, self.scale)
        network.node(self.node, self.parameters, inputs, [result], self.name)

    def simulate(self, form: Form, rules: Rules | None) -> np.ndarray:
        arrays = [values.astype(np.int16) for values, _ in self.sources]
        params = [params_of(scale, form) for _, scale in self.sources]
        return self.compute(arrays, params, params_of(self.scale, form), rules or _ANY)


@dataclass(frozen=True)
class InnerSum:
    """A sum of two tensors that convolutions compute: each passes its input on as it is."""

    name: str
    scales: tuple[float, float, float]

    def inputs(self) -> dict[str, np.ndarray]:
        return {f"{self.name} {number}": values for number, values in enumerate(_PAIRS)}

    def describe(self, network: Description) -> None:
        shape, sides = _PAIRS[0].shape, []
        for (name, values), scale in zip(self.inputs().items(), self.scales):
            source = network.input(name, values.shape, scale)
            weight = network.weight(np.full((1, 1, 1, 1), 64), np.full(1, 1 / 64, f32), False)
            bias = network.bias(np.zeros(1, int), np.full(1, scale / 64, f32))
            sides.append(network.between(shape, scale))
            window = [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1]
            network.node("conv", window, [source, weight, bias], [sides[-1]], self.name)
        result = network.output(self.name, shape, self.scales[2])
        network.node("add", [], sides, [result], self.name)

    def simulate(self, form: Form, rules: Rules) -> np.ndarray:
        arrays = [values.astype(np.int16) for values in _PAIRS]
        *sources, result = (params_of(scale, form) for scale in self.scales)
        return operators.add(*arrays, sources, result, rules, on_cores=not form.per_channel)


def _add(arrays, params, result, rules):
    return operators.add(*arrays, params, result, rules)


def _multiply(arrays, params, result, rules):
    return operators.multiply(*arrays, params, result, rules)


def _average(size):
    def compute(arrays, params, result, rules):
        return operators.average_pool(arrays[0], (size, size), Geometry((size, size)), *params, result, rules)

    return compute


def _max(arrays, params, result, rules):
    return operators.max_pool(arrays[0], (3, 3), Geometry((3, 3)))


def _resize(arrays, params, result, rules):
    return arrays[0].repeat(2, 1).repeat(2, 2)


def _concat(arrays, params, result, rules):
    return np.concatenate(
        [
            operators.rescale(array, source, result, rules, on_shaders=result.signed)
            for array, source in zip(arrays, params)
        ]
    )


def _function(kind, **attributes):
    def compute(arrays, params, result, rules):
        function = function_of(kind, attributes)
        entries = (
            shader_table(function, params[0], result, "half_to_even")
            if result.signed
            else table(function, params[0], result, "half_to_even", rules.arithmetic.table_points)
        )
        return operators.look_up(arrays[0], entries, params[0])

    return compute


def _square(size, step):
    return (size, size, step, step, 0, 0, 0, 0)


_ROW = LEVELS.reshape(1, 1, 256)
_PAIRS = tuple(np.broadcast_to(side, (1, 256, 256)) for side in (LEVELS, LEVELS[:, None]))


def averaged(name: str, size: int, image: np.ndarray, source: float, result: float) -> Values:
    """The means of windows of a size, beside one another."""
    return Values(name, "average", _square(size, size), ((image, source),), result, _average(size))


def _random(low, high, shape):
    return _RANDOM.randint(low, high, shape)


_ONES = np.zeros(127, np.int64)
CASES = (
    Convolution("products", _ROW, np.arange(1, 128).reshape(127, 1, 1, 1), _ONES, (1.0, 1.0, 101.7)),
    Convolution(
        "dense",
        _IMAGE,
        _random(-127, 128, (24, 16, 3, 3)),
        _random(-20000, 20000, 24),
        (0.05, 0.003, 0.9),
        1,
        1,
    ),
    Convolution(
        "relu",
        _IMAGE,
        _random(-127, 128, (24, 16, 1, 1)),
        _random(-20000, 20000, 24),
        (0.05, 0.003, 0.5),
        relu=True,
    ),
    Convolution(
        "depthwise",
        _IMAGE,
        _random(-127, 128, (16, 1, 3, 3)),
        _random(-2000, 2000, 16),
        (0.05, 0.003, 0.21),
        2,
        1,
        depthwise=True,
    ),
    # Factors from 1.6 to 4.8; sums small enough that not all results are at the ends.
    Convolution(
        "above_one",
        _random(-20, 21, (4, 9, 9)),
        _random(-2, 3, (8, 4, 1, 1)),
        _random(-9, 9, 8),
        (0.3, 0.7, 0.13),
    ),
    # A dead input, as folded: a constant 0 with a large weight.
    Convolution(
        "dead",
        np.concatenate([np.zeros((1, 9, 9), int), _IMAGE[:3]]),
        np.concatenate([np.full((8, 1, 1, 1), 127), _random(-9, 10, (8, 3, 1, 1))], axis=1),
        _random(-900, 900, 8),
        (0.05, 0.01, 0.02),
    ),
    Values("multiply", "multiply", (), ((_PAIRS[0], 0.031), (_PAIRS[1], 0.0079)), 0.023, _multiply),
    # Of scales 0.0311 and 0.0473 no sum of two levels is a middle of the result's.
    Values("add", "add", (), ((_PAIRS[0], 0.0311), (_PAIRS[1], 0.0473)), 0.0611, _add),
    InnerSum("inner_sum", (0.0264, 0.0289, 0.0341)),
    averaged("average3", 3, _IMAGE, 0.05, 0.05),
    averaged("average9", 9, _IMAGE, 0.05, 0.033),
    Values("max", "max", _square(3, 3), ((_IMAGE, 0.05),), 0.05, _max),
    Values("sigmoid", "sigmoid", (), ((_ROW, 0.06),), 1 / 256, _function("sigmoid")),
    Values(
        "hard_sigmoid",
        "hard_sigmoid",
        (1 / 6, 0.5),
        ((_ROW, 0.06),),
        1 / 127,
        _function("hard_sigmoid", slope=1 / 6),
    ),
    Values("hard_swish", "hard_swish", (), ((_ROW, 0.06),), 0.0501, _function("hard_swish")),
    Values("concat", "concat", (2,), ((_ROW, 0.05), (_ROW, 0.031)), 0.05, _concat),
    # Three levels times the ratio of the scales are within 0.002 of a middle, where 16 bits tell.
    Values("concat_close", "concat", (2,), ((_ROW, 0.0482954), (_ROW, 0.0858512)), 0.0858512, _concat),
    Values("resize", "resize", (18, 18), ((_IMAGE, 0.05),), 0.05, _resize),
)


def network_of(form: Form) -> Description:
    """All cases beside one another in one network."""
    network = Description(form)
    for case in CASES:
        case.describe(network)
    return network


def inputs_of() -> dict[str, np.ndarray]:
    """The inputs of that network, by name."""
    return {name: values for case in CASES for name, values in case.inputs().items()}
