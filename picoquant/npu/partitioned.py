"""A network as opt partitioned it, read from the program that opt writes with `--optimize_out_type=protobuf`.

In that program each NPU subgraph is one `subgraph` operator, and a block of its own holds the subgraph's
operators. Conversions are `calib` (data type), `io_copy` and `layout` operators; everything else runs on the
CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from picoquant.errors import ToolError, WeightsError
from picoquant.paddle_program.graph import (
    FEED,
    FETCH,
    Graph,
    Operator,
    Tensor,
    read_operator,
    read_tensors,
)
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program

NPU, CPU, CONVERSION, BORDER = "npu", "cpu", "conversion", "border"
_CONVERSIONS = ("calib", "io_copy", "layout")
_KERNEL = "__@kernel_type_attr@__"
# Suffixes that opt appends to the name of a tensor that it converts or copies.
_CONVERTED = ("/precision_trans", "/target_trans", "/layout_trans")


@dataclass(frozen=True)
class PlacedOperator(Operator):
    """An operator and where it runs.

    Attributes:
        place: `npu`, `cpu`, `conversion`, or `border` for feed and fetch.
        subgraph: index of its NPU subgraph, from 0; -1 if it is not on the NPU.
        kernel: opt's name for its kernel, for example `fp32_to_int8` of a `calib`.
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
    """A network as opt partitioned it.

    Attributes:
        operators: in execution order; each `subgraph` operator is replaced by the operators in its block.
        tensors: all tensors, by name.
        inputs, outputs: names of the network's inputs and outputs, as opt's program feeds and fetches them.
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
        """A tensor by name; a `Tensor` of unknown shape and type if opt's program does not list it."""
        return self.tensors.get(name) or Tensor(name, None, "", False)


def plain_name(name: str) -> str:
    """A tensor's name without the suffixes that opt appends for conversions."""
    for mark in _CONVERTED:
        name = name.partition(mark)[0]
    return name


def read_partitioned(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> PartitionedGraph:
    """Read the program that `OptTool.run` writes with `out_type="protobuf"`.

    Args:
        folder: the output folder of opt.
        shapes: shapes of the tensors of the program that was passed to opt; opt's own program lacks some of
            them.

    Raises: `WeightsError` if the program cannot be read, `ToolError` if its weights cannot.
    """
    program = read_program(folder / "model")
    main = program.blocks[0]
    operators: list[PlacedOperator] = []
    subgraph = 0
    for op in main.ops:
        if op.type == "subgraph":
            block = program.blocks[read_operator(op).attributes["sub_block"]]
            operators += [_placed(inner, NPU, subgraph) for inner in block.ops]
            subgraph += 1
        elif op.type in (FEED, FETCH):
            operators.append(_placed(op, BORDER))
        else:
            operators.append(_placed(op, CONVERSION if op.type.startswith(_CONVERSIONS) else CPU))
    return _graph(
        operators, _completed(read_tensors(main), _stored_types(program, folder / "params"), shapes)
    )


def unpartitioned(program: Any) -> PartitionedGraph:
    """A program before opt partitions it, as a `PartitionedGraph` with every operator on the CPU.

    opt lets tensors on the CPU share names to save memory; here each tensor has its own name and shape.
    """
    main = program.blocks[0]
    operators = [_placed(op, BORDER if op.type in (FEED, FETCH) else CPU) for op in main.ops]
    return _graph(operators, read_tensors(main))


def _graph(operators: list[PlacedOperator], tensors: Mapping[str, Tensor]) -> PartitionedGraph:
    return PartitionedGraph(
        tuple(operators),
        tensors,
        tuple(name for op in operators if op.op_type == FEED for _, name in op.outputs),
        tuple(plain_name(name) for op in operators if op.op_type == FETCH for _, name in op.inputs),
    )


def _placed(op: Any, place: str, subgraph: int = -1) -> PlacedOperator:
    plain = read_operator(op)
    attributes = dict(plain.attributes)
    kernel = str(attributes.pop(_KERNEL, ""))
    alias = kernel.split("/")[1] if kernel.count("/") else ""
    return PlacedOperator(
        plain.name, plain.op_type, plain.inputs, plain.outputs, attributes, place, subgraph, alias
    )


def _completed(
    tensors: Mapping[str, Tensor], stored_types: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Tensors with the types of the stored values and with the shapes that opt's program lacks."""
    return {
        name: replace(
            tensor,
            dtype=stored_types.get(name) or tensor.dtype,
            shape=tensor.shape or shapes.get(plain_name(name)),
        )
        for name, tensor in tensors.items()
    }


def _stored_types(program: Any, path: Path) -> dict[str, str]:
    """The types of the stored values; opt's program declares float even where the weights file holds INT8."""
    try:
        return {name: value.dtype.name for name, value in read_params(program, path).items()}
    except WeightsError as error:
        raise ToolError(f"the weights that opt wrote cannot be read: {error}") from error
