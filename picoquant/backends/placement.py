"""Where the operators of a network run, as a toolchain places them: on an NPU or on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from picoquant.paddle_program.graph import (
    FEED,
    FETCH,
    Graph,
    Operator,
    Tensor,
    read_operator,
    read_tensors,
)

NPU, CPU, CONVERSION, BORDER = "npu", "cpu", "conversion", "border"


@dataclass(frozen=True)
class PlacedOperator(Operator):
    """An operator and where it runs.

    Attributes:
        place: `npu`, `cpu`, `conversion`, or `border` for feed and fetch.
        subgraph: index of its NPU subgraph, from 0; -1 if it is not on the NPU.
        kernel: the toolchain's name for its kernel, for example `fp32_to_int8` of a `calib`.
    """

    place: str = CPU
    subgraph: int = -1
    kernel: str = ""

    @property
    def line(self) -> str:
        """The operator's line in a partition file, `type:inputs:outputs`; the inputs are left out."""
        return f"{self.op_type}::{','.join(self.results)}"


@dataclass(frozen=True)
class PartitionedGraph:
    """A network as a toolchain partitioned it.

    Attributes:
        operators: in execution order, those of a subgraph where the subgraph runs.
        tensors: all tensors, by name.
        inputs, outputs: names of the network's inputs and outputs, as the partitioned program feeds and fetches them.
    """

    operators: tuple[PlacedOperator, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def at(self, place: str) -> tuple[PlacedOperator, ...]:
        """The operators with this `place`, in execution order."""
        return tuple(op for op in self.operators if op.place == place)

    @property
    def subgraphs(self) -> tuple[tuple[PlacedOperator, ...], ...]:
        """The operators of each NPU subgraph."""
        on_npu = self.at(NPU)
        count = max((op.subgraph for op in on_npu), default=-1) + 1
        return tuple(tuple(op for op in on_npu if op.subgraph == index) for index in range(count))

    @property
    def graph(self) -> Graph:
        """The network as a `Graph`, without feed and fetch; its operators are still `PlacedOperator`s."""
        inside = tuple(op for op in self.operators if op.place != BORDER)
        return Graph(inside, self.tensors, self.inputs, self.outputs)

    def tensor(self, name: str) -> Tensor:
        """A tensor by name; a `Tensor` of unknown shape and type if the partitioned program does not list it."""
        return self.tensors.get(name) or Tensor(name, None, "", False)


@dataclass(frozen=True)
class BoardReport:
    """What a toolchain itself says of a model on a board; None and empty where it says nothing.

    Attributes:
        placement: where each operator runs.
        cycles: of the NPU, one image.
        memory: bytes, by the toolchain's name for the memory.
        milliseconds: for one image, estimated by the toolchain; clock: of the NPU for that, Hz.
        operators: how many run on `npu` and on `cpu`, as the toolchain counts its own.
        on_cpu: type and name of each that runs on the CPU.
    """

    placement: PartitionedGraph | None = None
    cycles: int | None = None
    memory: Mapping[str, int] = field(default_factory=dict)
    milliseconds: float | None = None
    clock: float | None = None
    operators: Mapping[str, int] = field(default_factory=dict)
    on_cpu: tuple[tuple[str, str], ...] = ()


def place_operator(op: Any, place: str, subgraph: int = -1, kernel: str = "") -> PlacedOperator:
    """An `OpDesc` message as a `PlacedOperator`, see its attributes."""
    plain = read_operator(op)
    return PlacedOperator(
        plain.name, plain.op_type, plain.inputs, plain.outputs, plain.attributes, place, subgraph, kernel
    )


def partitioned_graph(operators: Sequence[PlacedOperator], tensors: Mapping[str, Tensor]) -> PartitionedGraph:
    """The network of placed operators, feed and fetch among them."""
    return PartitionedGraph(
        tuple(operators),
        tensors,
        tuple(name for op in operators if op.op_type == FEED for _, name in op.outputs),
        tuple(name for op in operators if op.op_type == FETCH for _, name in op.inputs),
    )


def unpartitioned(program: Any) -> PartitionedGraph:
    """A program before it is partitioned, as a `PartitionedGraph` with every operator on the CPU.

    A toolchain may let tensors share names to save memory; here each tensor has its own name and shape.
    """
    main = program.blocks[0]
    operators = [place_operator(op, BORDER if op.type in (FEED, FETCH) else CPU) for op in main.ops]
    return partitioned_graph(operators, read_tensors(main))
