"""What opt itself says of a model on a board: which operators it gives to the NPU, in how many subgraphs.

In the program that opt writes with `--optimize_out_type=protobuf` each NPU subgraph is one `subgraph` operator, and a
block of its own holds the subgraph's operators. Conversions are `calib` (data type), `io_copy` and `layout` operators;
everything else runs on the CPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.backends.paddle_lite.symmetric import require_symmetric
from picoquant.backends.placement import (
    BORDER,
    CONVERSION,
    CPU,
    NPU,
    BoardReport,
    PartitionedGraph,
    PlacedOperator,
    partitioned_graph,
    place_operator,
)
from picoquant.backends.source import Source
from picoquant.errors import ToolError, WeightsError
from picoquant.int8.paddle.form import files_without_rounding
from picoquant.paddle_program.edit import smaller_for_opt, write_program
from picoquant.paddle_program.graph import FEED, FETCH, Tensor, read_operator, read_tensors
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program
from picoquant.targets.profiles import Target
from picoquant.utils.paddle_version.differences import holds_tensor, tensor_of

_CONVERSIONS = ("calib", "io_copy", "layout")
_KERNEL = "__@kernel_type_attr@__"
# Suffixes that opt appends to the name of a tensor that it converts or copies.
_CONVERTED = ("/precision_trans", "/target_trans", "/layout_trans")


def report(source: Source, tool: OptTool, target: Target, partition: str = "") -> BoardReport:
    """Partition a model with opt, as the board's runtime does; see `base.Report`.

    Args:
        source, tool, target: see `base.Report`.
        partition: operators to keep on the CPU, see `npu.partition`.

    Raises: `ToolError` with opt's own word when it refuses the model, `SchemeError` for one with zero points.
    """
    require_symmetric(source)
    shapes = {
        variable.name: tuple(tensor_of(variable.type).dims)
        for block in source.program.blocks
        for variable in block.vars
        if holds_tensor(variable.type)
    }
    with tempfile.TemporaryDirectory(prefix="picoquant-check-") as scratch:
        model, values, output = (
            Path(scratch) / name for name in ("model.pdmodel", "model.pdiparams", "made")
        )
        program, params = files_without_rounding(source.program, source.folder.params, values)
        write_program(smaller_for_opt(program) if target.on_npu else program, model)
        tool.run(model, params, output, target.paddle_lite.valid_targets, "protobuf", partition=partition)
        return BoardReport(read_partitioned(output, shapes))


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
    tensors = _completed(read_tensors(main), _stored_types(program, folder / "params"), shapes)
    graph = partitioned_graph(operators, tensors)
    return replace(graph, outputs=tuple(map(plain_name, graph.outputs)))


def plain_name(name: str) -> str:
    """A tensor's name without the suffixes that opt appends for conversions."""
    for mark in _CONVERTED:
        name = name.partition(mark)[0]
    return name


def _placed(op: Any, place: str, subgraph: int = -1) -> PlacedOperator:
    placed = place_operator(op, place, subgraph)
    attributes = dict(placed.attributes)
    kernel = str(attributes.pop(_KERNEL, ""))
    return replace(placed, attributes=attributes, kernel=kernel.split("/")[1] if kernel.count("/") else "")


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
