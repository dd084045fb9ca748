"""An INT8 network as TPU-MLIR takes it: float ONNX of the INT8 weights' values, and its calibration table.

TPU-MLIR quantises by itself: a tensor by the threshold that the table has for it, symmetric, 127 steps; a weight by the
largest value of each channel, of which the values of our integers give the integers back. It names a tensor by the
ONNX node that makes it, `NAME_TYPE`.
"""

from __future__ import annotations

from typing import Any

from picoquant.backends.onnx.qdq import checked, float_graph
from picoquant.int8.network import Int8Network

_HEAD = "# picoquant's ranges\n# op_name    threshold    min    max\n"


def make_form(network: Int8Network) -> tuple[Any, dict[str, tuple[str, float]]]:
    """Make the ONNX model and the thresholds.

    Args:
        network: for one image; every tensor has a range.

    Returns: a checked `onnx.ModelProto`; by TPU-MLIR's name of each tensor the network's own and its range.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """
    graph = float_graph(network)
    made = {name: f"{name}_{node.op_type}" for node in graph.nodes for name in node.output}
    names = {name: name for name in graph.inputs} | made
    thresholds = {names[name]: (name, value) for name, value in network.ranges.items() if name in names}
    return checked(graph), thresholds


def table_of(thresholds: dict[str, tuple[str, float]]) -> str:
    """The calibration table as TPU-MLIR reads it."""
    rows = [f"{name} {value:.9g} {-value:.9g} {value:.9g}\n" for name, (_, value) in thresholds.items()]
    return _HEAD + "".join(rows)
