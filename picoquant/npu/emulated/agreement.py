"""Each operator of a simulated network beside the same operator on VeriSilicon's emulator, with the same inputs.

All operators go into one network of the emulator, each by itself: its inputs are what the simulation computes. So a
difference is the operator's own, and one run shows all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from picoquant.backends.verisilicon.emulator import run
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.npu.emulated.describe import describe_apart, form_of
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.utils.tables import columns


@dataclass(frozen=True)
class Agreement:
    """How operators of one type agree.

    Attributes:
        op_type: of the operators.
        operators, identical: how many there are, and of how many every value is the same.
        values, differing: values of their results, and how many of them differ.
        largest: the largest difference, in levels.
    """

    op_type: str
    operators: int
    identical: int
    values: int
    differing: int
    largest: int


def compare_with_emulator(
    simulation: NpuSimulation, feed: Mapping[str, np.ndarray], tool: Emulator, chip: str
) -> list[Agreement]:
    """Run every operator of a network that computes values on the emulator, once.

    Args:
        simulation: of an INT8 network, with the target's rules.
        feed: one image.
        tool: the emulator.
        chip: its name of the NPU.

    Returns: one row for each type of operator, in the network's order.

    Raises: `ToolError` when the emulator refuses the operators, crashes, or has no memory.
    """
    tensors = simulation.run_steps(feed, keep=True)
    network, kinds = describe_apart(simulation, form_of(simulation))
    inputs = {name: tensors[name.partition(" > ")[0]] for name, _, _ in network.inputs}
    return agreements(run(tool, chip, network, inputs), tensors, kinds)


def agreements(
    found: Mapping[str, np.ndarray], simulated: Mapping[str, np.ndarray], kinds: Mapping[str, str]
) -> list[Agreement]:
    """Tensors of the emulator beside those of the simulation, one row for each type of operator.

    Args:
        found, simulated: quantised values by name.
        kinds: the type of the operator that computes each tensor that is looked at.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for name, kind in kinds.items():
        values = found[name].astype(np.int32)
        rows.setdefault(kind, []).append(np.abs(values - simulated[name].reshape(values.shape)))
    return [
        Agreement(
            kind,
            len(parts),
            sum(not part.any() for part in parts),
            sum(part.size for part in parts),
            sum(int((part > 0).sum()) for part in parts),
            max(int(part.max()) for part in parts),
        )
        for kind, parts in rows.items()
    ]


def generated_image(simulation: NpuSimulation) -> dict[str, np.ndarray]:
    """A feed of one image that takes all values of the input's range: blurred noise, always the same."""
    name = simulation.input_names[0]
    shape = simulation.graph.graph.tensor(name).shape
    noise = np.random.RandomState(0).standard_normal(shape[1:]).transpose(1, 2, 0)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    params = simulation.params[name]
    low = 0.0 if params.zero_point in (0, 128) else float(params.lowest)
    return {name: (low + smooth * (float(params.highest) - low)).transpose(2, 0, 1)[None].astype(np.float32)}


def agreement_table(rows: list[Agreement]) -> str:
    """The rows as a table of text."""
    lines = [("operator", "operators", "identical", "values", "differing", "largest")]
    lines += [
        (row.op_type, *map(str, (row.operators, row.identical, row.values, row.differing, row.largest)))
        for row in rows
    ]
    return columns(lines)
