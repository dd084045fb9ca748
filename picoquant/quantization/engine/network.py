"""A float network with any of its operators on rounded values, run in dygraph from the operators of its program."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from picoquant.errors import WeightsError
from picoquant.int8.operators import QuantizableOperator, quantised_name
from picoquant.paddle_program.graph import Graph, Operator
from picoquant.paddle_program.layers import BATCH_NORM, CONVOLUTIONS, fused_layer
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.operators import OPERATORS, compute, results_of
from picoquant.quantization.engine.parameters import named_parameter
from picoquant.quantization.engine.tracing.kernels import fake_quantise_weight


class ActivationQuantiser(Protocol):
    """Rounds an activation."""

    def __call__(self, value: Any, following: bool) -> Any:
        """The rounded tensor; `following`: the range may follow it."""


@dataclass(frozen=True)
class _Step:
    """Operators that are computed at once.

    Attributes:
        op: the operator; of a convolution with what is fused into it, the convolution.
        result: names of the results.
        reads: names of the tensors it reads that are computed.
        bias: name of the stored bias that is added.
        activation: type of the ReLU behind; empty for none.
        last: tensors that no later step reads.
    """

    op: Operator
    result: tuple[str, ...]
    reads: tuple[str, ...]
    bias: str | None = None
    activation: str = ""
    last: tuple[str, ...] = ()


class FakeQuantNetwork(nn.Layer):
    """A network whose quantised operators read rounded activations and weights.

    Its parameters and running statistics have the program's names.

    Args:
        graph: the float network.
        values: its stored tensors, by name.
        operators: those on rounded values; may be none.
        quantisers: rounds each activation that they read, by name.
        weight_bits: of a weight.
        constants: stored tensors that are not trained, beside running statistics.
        convolutions: computes them; None: one of its own, by oneDNN.
        held: rounds each tensor that is held rounded, by name, whatever reads it; inputs may be among them.
    """

    def __init__(
        self,
        graph: Graph,
        values: Mapping[str, np.ndarray],
        operators: Sequence[QuantizableOperator],
        quantisers: Mapping[str, ActivationQuantiser],
        weight_bits: int = 8,
        constants: Collection[str] = (),
        convolutions: Convolutions | None = None,
        held: Mapping[str, ActivationQuantiser] | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self._quantised = {operator.output: operator for operator in operators}
        self._quantisers, self._weight_bits, self._held = quantisers, weight_bits, held or {}
        self._convolutions = convolutions or Convolutions(onednn=True)
        self._plans: dict[tuple[tuple[str, ...], frozenset[str]], list[_Step]] = {}
        fixed = {*constants, *_running_statistics(graph)}
        read = {name for op in graph.operators for _, name in op.inputs}
        self.stored = {
            name: _variable(name, value, name not in fixed) for name, value in values.items() if name in read
        }

    @property
    def onednn(self) -> bool:
        """Whether its convolutions are oneDNN's."""
        return self._convolutions.onednn

    @property
    def held(self) -> Mapping[str, ActivationQuantiser]:
        """What rounds each tensor that is held rounded, by name."""
        return self._held

    @property
    def read_rounded(self) -> set[str]:
        """Names of the tensors that are rounded where they are read, and not held so."""
        return {one.activation for one in self._quantised.values()} - self._held.keys()

    def rounded_weights(self) -> dict[str, int]:
        """The axis of each weight that is rounded, by name; -1: one range for all of it."""
        found = {one.weight: one.axis for one in self._quantised.values()}
        return {name: axis for name, axis in found.items() if name in self.stored}

    def rounded_weight(self, weight: Any, axis: int) -> Any:
        """A weight as operators read it; gradients pass."""
        return fake_quantise_weight(weight, axis, self._weight_bits)

    def trained(self) -> list[Any]:
        """The parameters that training changes."""
        return [one for one in self.stored.values() if not one.stop_gradient]

    def statistics(self) -> list[Any]:
        """The running statistics that follow batches."""
        names = _running_statistics(self.graph, following=True)
        return [self.stored[name] for name in sorted(names) if name in self.stored]

    def computable(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of some tensors that need no operator which is not among `OPERATORS`."""
        return computable(self.graph, names)

    def forward(self, feed: Mapping[str, Any], outputs: Sequence[str], following: bool = False) -> list[Any]:
        """Compute tensors of the network.

        Args:
            feed: tensors by input name, the batch first. Others of the network may be among them, which are then not
                computed and not rounded.
            outputs: names of the tensors.
            following: whether ranges and batch-norm statistics follow the batch.

        Raises: `WeightsError` naming an operator that is needed and not known.
        """
        found = dict(self._run(feed, tuple(outputs), following))
        return [found[name] for name in outputs]

    def each(self, feed: Mapping[str, Any], outputs: Sequence[str]) -> Iterator[Any]:
        """The tensors of `forward`, one after the other, so that not all of them are held at once."""
        early: dict[str, Any] = {}
        wanted = iter(outputs)
        name = next(wanted, None)
        for one, value in self._run(feed, tuple(outputs), following=False):
            early[one] = value
            while name is not None and name in early:
                yield early.pop(name)
                name = next(wanted, None)

    def _run(
        self, feed: Mapping[str, Any], outputs: tuple[str, ...], following: bool
    ) -> Iterator[tuple[str, Any]]:
        """Compute, and yield each output with its name as soon as it is there."""
        tensors = {
            name: self._round(name, feed[name], following) for name in self.graph.inputs if name in feed
        }
        wanted = set(outputs)
        yield from ((name, value) for name, value in tensors.items() if name in wanted)
        given = frozenset(name for name in feed if self.graph.producer(name) is not None)
        tensors.update((name, feed[name]) for name in given)
        yield from ((name, feed[name]) for name in given & wanted)
        for step in self._plan(outputs, given):
            results = {
                name: self._round(name, value, following)
                for name, value in zip(step.result, self._compute(step, tensors, following))
            }
            for name in step.last:
                tensors.pop(name, None)
                tensors.pop(quantised_name(name), None)
            tensors.update(results)
            yield from ((name, value) for name, value in results.items() if name in wanted)

    def _round(self, name: str, value: Any, following: bool) -> Any:
        return self._held[name](value, following) if name in self._held else value

    def _compute(self, step: _Step, tensors: dict[str, Any], following: bool) -> list[Any]:
        op = step.op
        operator = self._quantised.get(op.name)
        slots: dict[str, list[Any]] = {}
        for slot, name in op.inputs:
            slots.setdefault(slot.rstrip("0123456789"), []).append(
                self._input(name, operator, tensors, following)
            )
        if op.op_type in CONVOLUTIONS:
            bias = None if step.bias is None else self.stored[step.bias]
            image, weight = slots["Input"][0], slots["Filter"][0]
            return [self._convolutions(op, step.activation, image, weight, bias)]
        if op.op_type == BATCH_NORM and following and not op.attributes.get("use_global_stats", False):
            return [_following_batch_norm(op, slots)]
        return compute(op, slots)

    def _input(
        self, name: str, operator: QuantizableOperator | None, tensors: dict[str, Any], following: bool
    ) -> Any:
        if name in self.stored:
            value = self.stored[name]
            if operator is not None and name == operator.weight:
                return self.rounded_weight(value, operator.axis)
            return value
        if operator is None or name != operator.activation or name in self._held:
            return tensors[name]
        rounded = quantised_name(name)
        if rounded not in tensors:
            tensors[rounded] = self._quantisers[name](tensors[name], following)
        return tensors[rounded]

    def _plan(self, outputs: tuple[str, ...], given: frozenset[str]) -> list[_Step]:
        key = outputs, given
        if key not in self._plans:
            self._plans[key] = _steps(self.graph, outputs, {*self._quantisers, *self._held}, given)
        return self._plans[key]


def computable(graph: Graph, names: Sequence[str]) -> tuple[str, ...]:
    """Those of some tensors that need no operator which is not among `OPERATORS`."""
    beyond: set[str] = set()
    for op in graph.operators:
        if op.op_type not in OPERATORS or any(name in beyond for _, name in op.inputs):
            beyond.update(name for _, name in op.outputs)
    return tuple(name for name in names if name not in beyond)


def _steps(
    graph: Graph, outputs: Sequence[str], rounded: Collection[str], given: Collection[str]
) -> list[_Step]:
    """What computes some tensors, in order.

    Args:
        graph: the network.
        outputs: names of the tensors.
        rounded: names of tensors that are read rounded; like outputs, they must exist.
        given: names of tensors that are there already.
    """
    needed, used = set(outputs) - set(given), []
    for op in reversed(graph.operators):
        if any(name in needed for _, name in op.outputs):
            used.append(op)
            needed.update(name for _, name in op.inputs if name not in given)
    used.reverse()
    unknown = next((op for op in used if op.op_type not in OPERATORS), None)
    if unknown is not None:
        raise WeightsError(
            f"the operator {unknown.op_type} ({unknown.name}) is not among those that quantisation can run: export "
            "the model without it, for example without post-processing (export.post_process=false)"
        )
    steps, inside = [], set()
    for op in used:
        if op.name in inside:
            continue
        step = _step(graph, op, {*outputs, *rounded})
        if step.result != results_of(op):
            layer = fused_layer(graph, op)
            inside.update(one.name for one in layer.fused)
        steps.append(step)
    return _with_last_uses(steps)


def _step(graph: Graph, op: Operator, visible: Collection[str]) -> _Step:
    reads = tuple(name for _, name in op.inputs if not graph.tensor(name).stored)
    if op.op_type in CONVOLUTIONS:
        layer = fused_layer(graph, op)
        plain = all(one.op_type != BATCH_NORM for one in layer.fused)
        if plain and layer.fused and not visible & set(layer.inner):
            activation = layer.activation.op_type if layer.activation is not None else ""
            return _Step(op, (layer.output,), reads, layer.bias, activation)
    return _Step(op, results_of(op), reads)


def _with_last_uses(steps: Sequence[_Step]) -> list[_Step]:
    seen: set[str] = set()
    found = []
    for step in reversed(steps):
        last = tuple(dict.fromkeys(name for name in step.reads if name not in seen))
        seen.update(last)
        found.append(replace(step, last=last))
    return found[::-1]


def _running_statistics(graph: Graph, following: bool = False) -> set[str]:
    """Names of batch-norms' running statistics; `following`: only of those that are not fixed in the program."""
    return {
        name
        for op in graph.operators
        if op.op_type == BATCH_NORM and not (following and op.attributes.get("use_global_stats", False))
        for slot, name in op.inputs
        if slot in ("Mean0", "Variance0")
    }


def _variable(name: str, value: np.ndarray, trained: bool) -> Any:
    if trained and value.dtype == np.float32:
        return named_parameter(name, value)
    return paddle.to_tensor(value, stop_gradient=True)


def _following_batch_norm(op: Operator, slots: Mapping[str, list[Any]]) -> Any:
    statistics = slots["Mean"][0], slots["Variance"][0]
    weights = slots["Scale"][0], slots["Bias"][0]
    return F.batch_norm(
        slots["X"][0], *statistics, *weights, training=True,
        momentum=op.attributes["momentum"], epsilon=op.attributes["epsilon"],
    )  # fmt: skip
