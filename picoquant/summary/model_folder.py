"""What an exported model costs and takes, read from its files: a `.pdmodel`, or `inference.json` of Paddle 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.paddle_program.edit import for_one_image
from picoquant.paddle_program.graph import Operator, read_graph
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import program_facts, read_program


@dataclass(frozen=True)
class FolderSummary:
    """An exported model.

    Attributes:
        path: of its program.
        quantised: whether it is an INT8 model.
        inputs, outputs: names and shapes, -1 for any length.
        values: stored numbers: weights, biases, statistics of batch-norm.
        macs: multiply-accumulates of convolutions and matrix products with stored weights, for one image.
        operators: how many there are of each type.
    """

    path: str
    quantised: bool
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    values: int
    macs: int
    operators: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.path,
            "int8": self.quantised,
            "inputs": {name: list(shape) for name, shape in self.inputs},
            "outputs": {name: list(shape) for name, shape in self.outputs},
            "stored_values": self.values,
            "macs": self.macs,
            "operators": self.operators,
        }

    def text(self) -> str:
        """The same in lines."""
        lines = [
            f"{self.path}: {'INT8' if self.quantised else 'float'}, {sum(self.operators.values())} operators"
        ]
        for title, ends in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"{title:8} {name} {list(shape)}" for name, shape in ends]
        lines.append(f"stored values {self.values:,}, multiply-accumulates for one image {self.macs:,}")
        kinds = sorted(self.operators.items(), key=lambda one: (-one[1], one[0]))
        return "\n".join([*lines, ", ".join(f"{count} {name}" for name, count in kinds)])


def summarise_folder(folder: ModelFolder, input_size: Sequence[int] | None = None) -> FolderSummary:
    """Count what a model folder holds.

    Args:
        folder: of either Paddle.
        input_size: height and width of an image, for a model that takes any; None: those of its description.

    Raises: `WeightsError` for files that cannot be read, or a model that does not take such an image.
    """
    facts, program = program_facts(folder.model), read_program(folder.model)
    stored = read_params(program, folder.params)
    graph = read_graph(for_one_image(program, input_size or folder.config.input_size, str(folder.model)))
    shapes = {name: value.shape for name, value in stored.items()}
    macs = sum(_macs(op, shapes, graph.tensor(op.results[0]).size) for op in graph.operators if op.results)
    return FolderSummary(
        str(folder.model),
        facts.quantised,
        facts.inputs,
        facts.outputs,
        sum(int(value.size) for value in stored.values()),
        macs,
        dict(Counter(op.op_type for op in graph.operators)),
    )


def _macs(op: Operator, shapes: dict[str, tuple[int, ...]], results: int) -> int:
    """Of an operator with a stored weight: each result is a sum over the weight's inner axes."""
    if "conv2d" in op.op_type:
        inner = shapes.get(op.input("Filter0") or "", ())[1:]
    elif op.op_type in ("matmul", "matmul_v2", "mul"):
        inner = shapes.get(op.input("Y0") or "", ())[:1]
    else:
        return 0
    return results * int(np.prod(inner)) if inner else 0
