"""An INT8 network as esp-ppq is given it: float ONNX, and the exponent of each tensor's scale.

ESP-DL's scales are powers of two, so those of the network cannot be kept: every tensor gets the power of two that is
nearest to its scale, as a factor; values beyond 127 steps of it are limited. Weights are rounded by esp-ppq, to a power
of two for each channel; where their values before INT8 are known they are rounded from these, not a second time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx

from picoquant.backends.onnx.qdq import checked, float_graph
from picoquant.errors import WeightsError
from picoquant.int8.network import Int8Network

EXPONENTS, CHIP, SHA256 = "picoquant.exponents", "picoquant.chip", "picoquant.espdl_sha256"  # metadata
_STEPS = 127


def make_form(network: Int8Network, chip: str) -> Any:
    """Make the ONNX model, in whose metadata stand the exponents and the chip.

    Args:
        network: for one image; every tensor has a range.
        chip: see `chips`.

    Returns: a checked `onnx.ModelProto`.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """
    graph = float_graph(replace(network, values={**network.values, **network.float_params}))
    made = {*graph.inputs, *(name for node in graph.nodes for name in node.output)}
    exponents = {name: exponent_of(value) for name, value in network.ranges.items() if name in made}
    model = checked(graph)
    onnx.helper.set_model_props(model, {EXPONENTS: json.dumps(exponents), CHIP: chip})
    return model


def exponent_of(value: float) -> int:
    """Of the power of two nearest to the scale with which 127 steps reach a range, as a factor."""
    return round(math.log2(value / _STEPS))


def properties(model: Any, where: str) -> tuple[Mapping[str, int], str, str]:
    """Exponents by tensor, chip, and the SHA-256 of the `.espdl` that was built; of `make_form`'s model.

    Raises: `WeightsError` naming the file when it is another model.
    """
    values = {item.key: item.value for item in model.metadata_props}
    try:
        exponents = {str(name): int(value) for name, value in json.loads(values[EXPONENTS]).items()}
        return exponents, values[CHIP], values[SHA256]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{where} is not the ONNX that an .espdl was built from: export it again"
        ) from error
