"""The student of QAT: the prepared float network, with the rounding to INT8 in front of its quantised operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.int8.functions import NEVER_NEGATIVE
from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.passes.activations import activation_quantisers
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.graph import Graph, read_graph
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.ptq.equalisation.scales import read_scales
from picoquant.quantization.qat.learned_ranges.strategy import ActivationRange, RangeStrategy

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Student:
    """A network in training.

    Attributes:
        network: rounds activations by `ranges`.
        operators: those in INT8, in the network's order.
        ranges: of the activations that are rounded, by name.
        factors: what the gradients of equalised weights are multiplied by, see `gradient_factors`.
    """

    network: FakeQuantNetwork
    operators: tuple[QuantizableOperator, ...]
    ranges: Mapping[str, ActivationRange]
    factors: Mapping[str, Any]

    @property
    def graph(self) -> Graph:
        """The float network."""
        return self.network.graph

    @property
    def learned_ranges(self) -> list[Any]:
        """The parameters of ranges that the loss changes."""
        return [one for found in self.ranges.values() for one in found.learned]

    def scale_gradients(self) -> None:
        """Multiply the gradients of equalised weights by their factors."""
        for weight in self.network.trained():
            factor = self.factors.get(weight.name)
            if factor is not None and weight.grad is not None:
                weight.grad.set_value(weight.grad * factor)

    def tensors(self) -> dict[str, Any]:
        """Every tensor that training changes or keeps, by name."""
        kept = dict(self.network.stored)
        for found in self.ranges.values():
            kept.update(found.stored)
        return kept

    def state(self) -> State:
        """The values of `tensors`."""
        return {name: tensor.numpy() for name, tensor in self.tensors().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Set `tensors` to values; others in `state` are left out."""
        for name, tensor in self.tensors().items():
            if name in state:
                tensor.set_value(state[name])


def open_student(
    folder: Path,
    operators: Sequence[QuantizableOperator],
    settings: QuantAwareSettings,
    strategy: RangeStrategy,
    convolutions: Convolutions,
    all_held: bool = False,
) -> Student:
    """The student of a prepared network.

    Args:
        folder: holds its model files; where it was equalised, with the scales of `ptq/equalisation/scales.py`.
        operators: those in INT8.
        settings: numbers of bits, decay of moving averages.
        strategy: how ranges are found.
        convolutions: computes them.
        all_held: round every tensor that integer runtimes hold in INT8; else the inputs of the operators, as
            PaddleSlim does.

    Raises: `WeightsError` for files that cannot be read.
    """
    graph, values = _read(folder)
    scales = read_scales(folder)
    held = activation_quantisers(graph, operators) if all_held else ()
    ranges = {
        name: strategy.range_of(name, settings, _non_negative(graph, name), graph.tensor(name).shape or ())
        for name in dict.fromkeys([*(operator.activation for operator in operators), *held])
    }
    network = FakeQuantNetwork(
        graph,
        values,
        operators,
        ranges,
        settings.weight_bits,
        constants={name for name, scale in scales.items() if not scale.any()},
        convolutions=convolutions,
        held={name: ranges[name] for name in held},
    )
    return Student(network, tuple(operators), ranges, gradient_factors(network, scales))


def _read(folder: Path) -> tuple[Graph, dict[str, np.ndarray]]:
    program = read_program(folder / MODEL)
    return read_graph(program), read_params(program, folder / PARAMS)


def gradient_factors(network: FakeQuantNetwork, scales: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What gradients are multiplied by, so that an equalised network learns as the one before equalisation would.

    Equalisation multiplies a weight by `s` (`ptq/equalisation/equalise.py`), and so its gradient by `1 / s`: a step of
    SGD then moves the weight, in terms of the original network, by `1 / s^2` of the original step, and `s` ranges from
    a thousandth to a thousand. Multiplied by `s^2`, a step of SGD (with momentum and weight decay, too) is the same as
    without equalisation.

    Args:
        network: the equalised one.
        scales: what equalisation multiplied each stored variable by, broadcasting to its shape; 0 for the constants
            of a hard-swish that was written out, which are not trained.
    """
    found = {}
    for weight in network.trained():
        if weight.name in scales:
            factor = np.broadcast_to(scales[weight.name].astype(np.float32) ** 2, weight.shape)
            found[weight.name] = paddle.to_tensor(np.ascontiguousarray(factor))
    return found


def _non_negative(graph: Graph, name: str) -> bool:
    """Whether a tensor is the result of an operator whose results are never negative."""
    producer = graph.producer(name)
    return producer is not None and producer.op_type in NEVER_NEGATIVE
