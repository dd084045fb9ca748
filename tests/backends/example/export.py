"""A model as one `.npz`: its operators as JSON, its stored values, and the integers of its INT8 operators."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from picoquant.backends.base import Exported, Found
from picoquant.backends.source import Source
from picoquant.paddle_program.graph import read_graph
from picoquant.paddle_program.params import read_params
from picoquant.targets.profiles import Target

_ATTRIBUTES = ("strides", "paddings", "axis", "shape", "epsilon", "scale", "bias")


def export(source: Source, out: Path, tool: Found, target: Target | None = None) -> Exported:
    """Write the file, see `base.Export`."""
    network = source.network if source.quantised else None
    program = source.program if network is None else network.program
    values = read_params(program, source.folder.params) if network is None else network.values
    integers = {} if network is None else network.by_output
    arrays = {f"value/{name}": value for name, value in values.items()}
    operators = []
    for op in read_graph(program).operators:
        attributes = {name: op.attributes[name] for name in _ATTRIBUTES if name in op.attributes}
        made = {"type": op.op_type, "inputs": dict(op.inputs), "output": op.results[0], **attributes}
        if op.results[0] in integers:
            quantised = integers[op.results[0]]
            made["step"] = network.tensors[quantised.activation].params.scale
            arrays[f"integers/{op.results[0]}"] = quantised.integers
            arrays[f"scales/{op.results[0]}"] = quantised.scales
        operators.append(made)
    path = out.with_name(f"{out.name}.npz")
    np.savez(path, operators=json.dumps(operators), **arrays)
    return Exported((path,), source.facts.inputs, source.facts.outputs, source)
