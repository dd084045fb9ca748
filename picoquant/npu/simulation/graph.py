"""An INT8 program as the simulation sees it: operators with their attributes, what a convolution absorbs, levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picoquant.errors import ToolError
from picoquant.int8.paddle_reader import QuantizedOperator, QuantizedProgram
from picoquant.npu.simulation.arithmetic import Levels
from picoquant.paddle_program.graph import BORDER, Operator, Split, source_split
from picoquant.paddle_program.session import static_session
from picoquant.targets.integer_rules import Rules

_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid")
_KEEP_SIGN = (
    "concat", "split", "pool2d", "reshape2", "transpose2", "nearest_interp_v2", "elementwise_add",
    "elementwise_mul", "slice", "assign",
)  # fmt: skip


@dataclass(frozen=True)
class SimulatedGraph:
    """What a program becomes.

    Attributes:
        split: operators in order, shapes for one image.
        quantised: the operators on integers, by result.
        values: stored values.
        levels: of every tensor that is held, by name.
        chains: by a convolution's result: the operators that it absorbs (bias, ReLU).
    """

    split: Split
    quantised: Mapping[str, QuantizedOperator]
    values: Mapping[str, np.ndarray]
    levels: Mapping[str, Levels]
    chains: Mapping[str, tuple[Operator, ...]]

    @property
    def operators(self) -> list[Operator]:
        """What is computed, without feed, fetch and what convolutions absorb."""
        absorbed = {op.name for chain in self.chains.values() for op in chain}
        return [op for op in self.split.operators if op.place != BORDER and op.name not in absorbed]


def build_graph(
    quantised: QuantizedProgram, values: Mapping[str, np.ndarray], rules: Rules
) -> SimulatedGraph:
    """Look at a program.

    Args:
        quantised: without batch-norm, for one image.
        values: its stored values.
        rules: the target's.

    Raises: `ToolError` naming a tensor without range.
    """
    from paddle.static import Program

    from picoquant.int8.activations import target_tensors

    split = source_split(quantised.network)
    with static_session():
        program = Program.parse_from_string(quantised.network.SerializeToString())
        tensors = target_tensors(program, split.inputs)
    chains = _chains(split, tensors.fused)
    ranges = {**quantised.ranges, **quantised.learnt_ranges}
    positive = _not_negative(split, values)
    sigmoids = {op.name for op in split.operators if op.kind == "sigmoid"}
    levels = {}
    for name in tensors.names:
        if not ranges.get(name, 0) > 0:
            raise ToolError(
                f"tensor {name} has no range, without which no NPU computes it: quantise the model again"
            )
        if name in sigmoids and rules.symmetric and rules.arithmetic.numbers == "uint8":
            levels[name] = Levels.from_zero(ranges[name], rules)
        else:
            levels[name] = Levels.of(ranges[name], rules, negative=name not in positive)
    operators = {operator.output: operator for operator in quantised.operators}
    return SimulatedGraph(split, operators, values, levels, chains)


def _chains(split: Split, fused: Mapping[str, str]) -> dict[str, tuple[Operator, ...]]:
    readers: dict[str, Operator] = {}
    for op in split.operators:
        for _, name in op.inputs:
            readers.setdefault(name, op)
    chains = {}
    for op in split.operators:
        if op.kind in ("conv2d", "depthwise_conv2d"):
            chain, name = [], op.name
            while name in fused:
                chain.append(readers[name])
                name = readers[name].name
            chains[op.name] = tuple(chain)
    return chains


def _not_negative(split: Split, values: Mapping[str, np.ndarray]) -> set[str]:
    """Tensors without values below 0, as far as the operators say."""
    found: set[str] = set()
    for op in split.operators:
        computed = [name for _, name in op.inputs if name not in values]
        stored = [values[name] for _, name in op.inputs if name in values]
        keeps = op.kind in _KEEP_SIGN and all(name in found for name in computed)
        if op.kind in _NOT_NEGATIVE or (keeps and all((value >= 0).all() for value in stored)):
            found.update(name for _, name in op.outputs)
    return found
