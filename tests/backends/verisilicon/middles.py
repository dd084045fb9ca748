"""Sums and products of two tensors that are next to the middle between two levels, where each step of float32 tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from picoquant.backends.verisilicon.description import Description, Form
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation import operators
from picoquant.targets.integer_rules import Rules

LEVELS = 128  # pairs of levels a case: those of all 65,536 that are nearest to a middle
_CASES = 40  # of each operator and kind of zero points
_COMPUTE: dict[str, Callable] = {"add": operators.add, "multiply": operators.multiply}


@dataclass(frozen=True)
class Pair:
    """An operator of two tensors; `scales` and `zero_points` are those of both and of the result."""

    name: str
    kind: str
    levels: tuple[np.ndarray, np.ndarray]
    scales: tuple[float, float, float]
    zero_points: tuple[int, int, int]

    def inputs(self) -> dict[str, np.ndarray]:
        return {f"{self.name} {number}": values for number, values in enumerate(self.levels)}

    def describe(self, network: Description) -> None:
        ends = zip(self.inputs().items(), self.scales, self.zero_points)
        sources = [network.input(name, values.shape, scale, zero) for (name, values), scale, zero in ends]
        result = network.output(self.name, (1, 1, LEVELS), self.scales[2], self.zero_points[2])
        network.node(self.kind, [], sources, [result], self.name)

    def simulate(self, form: Form, rules: Rules) -> np.ndarray:
        signed = form.name == "i8"
        params = [
            QuantParams(scale, zero, signed=signed, narrow=False)
            for scale, zero in zip(self.scales, self.zero_points)
        ]
        return _COMPUTE[self.kind](*self.levels, params[:2], params[2], rules)


def cases(form: Form) -> list[Pair]:
    """All of them; INT8 tensors have no other zero point than 0."""
    random, made = np.random.RandomState(11), []
    for free in (False, True) if form.name == "u8" else (False,):
        for kind in _COMPUTE:
            for number in range(_CASES):
                zeros = (form.zero_point,) * 3
                if free:
                    zeros = tuple(int(zero) for zero in random.choice([0, 3, 77, 128, 201, 255], 3))
                made.append(_case(f"{kind}{'_free' * free}{number}", kind, zeros, form, random))
    return made


def _case(name: str, kind: str, zeros: tuple[int, ...], form: Form, random: np.random.RandomState) -> Pair:
    lowest = -128 if form.name == "i8" else 0
    steps = [np.arange(lowest - zero, lowest - zero + 256) for zero in zeros]
    one, other = (side.ravel() for side in np.meshgrid(steps[0], steps[1], indexing="ij"))
    first, second = (float(np.float32(scale)) for scale in random.uniform(0.004, 0.1, 2))
    if kind == "add":
        result = float(np.float32(random.uniform(0.02, 0.12)))
        values = one * (first / result) + other * (second / result)
    else:  # a scale with which one product is next to a middle
        product = int((one * other)[random.randint(len(one))]) or 77
        near = (random.randint(0, 120) + 0.5) * (1 + random.choice([-1, 1]) * 10 ** random.uniform(-8, -5.5))
        result = float(np.float32(first * second * abs(product) / near))
        values = one * other * (first * second / result)
    off = np.abs(values - np.floor(values) - 0.5)
    off[(values < steps[2][1]) | (values > steps[2][-2])] = 1
    nearest = np.argsort(off, kind="stable")[:LEVELS]
    levels = tuple(side[nearest].reshape(1, 1, LEVELS) for side in (one, other))
    return Pair(name, kind, levels, (first, second, result), zeros)


def network_of(form: Form) -> tuple[Description, dict[str, np.ndarray]]:
    """All cases in one network, and its inputs."""
    network = Description(form)
    made = cases(form)
    for case in made:
        case.describe(network)
    return network, {name: values for case in made for name, values in case.inputs().items()}
