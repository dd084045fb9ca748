"""An INT8 network as one thing: its operators, what each tensor's integers stand for, its integer weights and biases.

Quantisation makes it (`build.py`), or it is read from an INT8 Paddle model that somebody else made
(`paddle_reader.py`). Every form it is written in, every simulation and every check takes it as it is and derives none
of this anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.edit import for_one_image
from picoquant.paddle_program.graph import Graph, read_graph
from picoquant.paddle_program.layers import FusedLayer, fused_layers


@dataclass(frozen=True)
class QuantizedTensor:
    """A computed tensor and its quantisation.

    Attributes:
        params: what its integers stand for; None: no range is known.
        owner: the tensor whose quantisation this one shares (unified scales), often itself.
        fused_into: the tensor that this one becomes part of inside a fused layer; None: an NPU holds it.
        quantised: whether every integer runtime holds it in INT8, not only one that runs INT8 alone.
        non_negative: whether its values are never below 0, as far as the operators say.
    """

    params: QuantParams | None
    owner: str
    fused_into: str | None = None
    quantised: bool = False
    non_negative: bool = False


@dataclass(frozen=True, eq=False)
class QuantizedOperator:
    """An operator that computes on integers.

    Attributes:
        op_type: for example `conv2d`.
        output: name of its result, which names it.
        activation: name of the input that is computed.
        weight: name of the stored input.
        integers: the weight, int8, in Paddle's layout.
        params: of the weight; `scale` is float64 `[channels]`, or a float where `axis` is -1.
        bias: name of the stored bias `[channels]` that is added to the result; None without one.
        bias_integers: the bias, int64 within INT32, in steps of the weight's scale times the activation's; None
            without one.
    """

    op_type: str
    output: str
    activation: str
    weight: str
    integers: np.ndarray
    params: QuantParams
    bias: str | None = None
    bias_integers: np.ndarray | None = None

    @property
    def scales(self) -> np.ndarray:
        """The weight's scales, float64, `[channels]` or `[1]`."""
        return np.atleast_1d(np.asarray(self.params.scale, np.float64))

    @property
    def value(self) -> np.ndarray:
        """The weight that the integers stand for, float32."""
        shape = [-1 if axis == self.params.axis else 1 for axis in range(self.integers.ndim)]
        scales = self.scales.astype(np.float32).reshape(shape if self.params.axis >= 0 else ())
        return self.integers.astype(np.float32) * scales


@dataclass(frozen=True, eq=False)
class Int8Network:
    """An INT8 network.

    Attributes:
        program: its operators in float, a `ProgramDesc` without quantising operators and with batch-norm folded into
            the convolutions before it; not to be changed.
        tensors: of the computed tensors, by name: those that an NPU holds in their order, then those inside layers.
        operators: those on integers, in the network's order.
        values: stored tensors by name; of weights in INT8 the values that their integers stand for.
        ignored: results of operators that stay in float because the settings say so.
        float_params: weights and biases as they were before they were rounded, by name; empty where not known.
    """

    program: Any
    tensors: Mapping[str, QuantizedTensor]
    operators: tuple[QuantizedOperator, ...]
    values: Mapping[str, np.ndarray]
    ignored: frozenset[str] = frozenset()
    float_params: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def graph(self) -> Graph:
        """The operators and tensors of `program`."""
        return read_graph(self.program)

    @cached_property
    def layers(self) -> dict[str, FusedLayer]:
        """Every convolution with what is fused into it, by the convolution's result."""
        return fused_layers(self.graph)

    @cached_property
    def by_output(self) -> dict[str, QuantizedOperator]:
        """The operators on integers by their result."""
        return {operator.output: operator for operator in self.operators}

    @property
    def held(self) -> tuple[str, ...]:
        """The tensors that an NPU holds, in the order they are computed, the network's inputs first."""
        return tuple(name for name, tensor in self.tensors.items() if tensor.fused_into is None)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The held tensors; those of a group have unified scales. Most groups have one member."""
        groups: dict[str, list[str]] = {}
        for name in self.held:
            groups.setdefault(self.tensors[name].owner, []).append(name)
        return tuple(map(tuple, groups.values()))

    @cached_property
    def ranges(self) -> dict[str, float]:
        """The value of 127 steps of each tensor that has a range (of 8 bits), by name: the largest if symmetric."""
        return {
            name: float(tensor.params.range)
            for name, tensor in self.tensors.items()
            if tensor.params is not None
        }

    @cached_property
    def zero_points(self) -> dict[str, int]:
        """The signed zero points of the tensors that are not symmetric, by name."""
        return {
            name: tensor.params.zero_point
            for name, tensor in self.tensors.items()
            if tensor.params is not None and not tensor.params.is_symmetric
        }

    @cached_property
    def operator_inputs(self) -> frozenset[str]:
        """The activations that operators on integers read."""
        return frozenset(operator.activation for operator in self.operators)

    @property
    def per_channel(self) -> bool:
        """Whether a weight has several scales."""
        return any(len(operator.scales) > 1 for operator in self.operators)

    def for_one_image(self, input_size: Sequence[int], where: str) -> Int8Network:
        """The network for one image of a size, every shape known.

        Args:
            input_size: height and width, pixels.
            where: what to call the model in messages.

        Raises: `WeightsError` when it cannot take one image of that size.
        """
        return replace(self, program=for_one_image(self.program, input_size, where))
