"""What of a network its ncnn files are made of: float or INT8, with what is fused into each convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from picoquant.backends.ncnn.files import Value
from picoquant.backends.ncnn.functions import HARD_SWISH, fused_activation
from picoquant.errors import ToolError
from picoquant.int8.network import QuantizedOperator
from picoquant.int8.passes.hard_swish import Gate, find_gates
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Graph, Operator
from picoquant.paddle_program.layers import FusedLayer, fused_layers


@dataclass(frozen=True)
class Fused:
    """What becomes part of a convolution.

    Attributes:
        result: name of what it then makes.
        bias: name of the stored bias; None without one.
        activation: ncnn's parameters; None for none.
        absorbed: names of the operators.
        factors: what the result is multiplied by before the activation, `[C]`; None: nothing.
    """

    result: str
    bias: str | None
    activation: Mapping[int, Value] | None
    absorbed: tuple[str, ...]
    factors: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class NcnnNetwork:
    """A network for one image, with batch-norms folded.

    Attributes:
        graph: its operators.
        values: its stored tensors.
        operators: those on integers, by result; empty for a float model.
        params: of the tensors that these read, by name.
        half: whether float weights are stored as float16.
    """

    graph: Graph
    values: Mapping[str, np.ndarray]
    operators: Mapping[str, QuantizedOperator]
    params: Mapping[str, QuantParams]
    half: bool = False

    @cached_property
    def fused(self) -> dict[str, Fused]:
        """What is fused into each convolution, by the convolution's result."""
        found = {}
        gates = {name: gate for gate in self._gates.values() for name in gate.absorbed}
        for name, layer in self._layers.items():
            if name in gates:
                continue
            gate = self._gates.get(layer.output)
            if gate is not None:
                absorbed = [*(op.name for op in layer.fused), *gate.absorbed]
                found[name] = Fused(gate.result, layer.bias, HARD_SWISH, tuple(absorbed), gate.factors)
                continue
            last, absorbed = layer.output, [op.name for op in layer.fused]
            activation = fused_activation(layer.activation) if layer.activation else None
            users = self.graph.users(last)
            if layer.activation is None and len(users) == 1 and last not in self.graph.outputs:
                activation = fused_activation(users[0])
                if activation is not None:
                    last, absorbed = users[0].name, [*absorbed, users[0].name]
            found[name] = Fused(last, layer.bias, activation, tuple(absorbed))
        return found

    @cached_property
    def _layers(self) -> dict[str, FusedLayer]:
        return fused_layers(self.graph)

    @cached_property
    def _gates(self) -> dict[str, Gate]:
        return find_gates(self.graph, self.values, self._layers)

    @cached_property
    def behind(self) -> dict[str, np.ndarray]:
        """Results of which the files hold a multiple: what that is to be multiplied by, `[C]`."""
        return {gate.result: gate.behind for gate in self._gates.values()}

    @cached_property
    def stored(self) -> frozenset[str]:
        """Results of convolutions on integers that nothing but such convolutions reads: they stay integers."""
        graph = self.graph
        results = [self.fused[name].result for name in self.operators if name in self.fused]
        return frozenset(
            name
            for name in results
            if name not in graph.outputs
            and name not in self.behind
            and all(user.name in self.operators and user.name in self.fused for user in graph.users(name))
        )

    @staticmethod
    def multiple(name: str) -> str:
        """Name of the blob that holds a multiple of a tensor."""
        return f"{name}.multiple"

    @staticmethod
    def integers(name: str) -> str:
        """Name of the blob with the integers of a tensor that there is a multiple of."""
        return f"{name}.integers"

    def read_by(self, op: Operator, name: str) -> str:
        """Name of the blob that an operator reads a tensor from."""
        if name not in self.behind or op.name not in self.fused:
            return name
        if op.name in self.operators:
            return self.integers(name)
        weight = self.values[op.input("Filter0") or ""]
        depthwise = op.attributes.get("groups") == len(weight) and weight.shape[1] == 1
        return self.multiple(name) if depthwise else name

    def factor(self, name: str) -> float:
        """What values of a tensor are multiplied by before they are rounded."""
        return 1 / float(self.params[name].scale)

    def shape(self, name: str) -> tuple[int, ...]:
        """Paddle's shape of a tensor.

        Raises: `ToolError` where it is not known.
        """
        shape = self.graph.tensor(name).shape
        if shape is None:
            raise ToolError(f"the shape of tensor {name} is not known: export the model again")
        return shape
