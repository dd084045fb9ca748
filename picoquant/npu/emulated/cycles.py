"""Cycles of a network on VeriSilicon's emulator: by layer and unit, as table, JSON and advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.backends.verisilicon.report import UNITS, LayerCost, report, totals
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.npu.emulated.describe import describe_network, form_of
from picoquant.npu.emulated.published_time import Time
from picoquant.npu.lint import ONTO_CORES, Finding
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.utils.tables import columns

_SHOWN = 12  # layers in the table
_OTHER = "(of no layer)"
_SHADER = "SH"


@dataclass(frozen=True)
class Cycles:
    """What a network costs on a chip, for one image.

    Attributes:
        chip: the emulator's name of it, with its version.
        layers: by tensor; see `LayerCost`.
        op_types: type of the operator that computes each of these tensors.
        per_channel: whether weights have a scale for each channel.
        model: SHA-256 of the model's weights.
        time: what the cycles may take on the target, where published times say so.
    """

    chip: str
    layers: Sequence[LayerCost]
    op_types: Mapping[str, str]
    per_channel: bool
    model: str = ""
    time: Time | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cycles:
        """What `to_json` wrote.

        Raises: `KeyError`, `TypeError` or `ValueError` when it is something else.
        """
        layers = []
        for one in values["layers"]:
            units = {unit: int(one[unit]) for unit in UNITS if int(one[unit])}
            layers.append(LayerCost(str(one["layer"]), units, int(one["read"]), int(one["written"])))
        kinds = {str(one["layer"]): str(one["type"]) for one in values["layers"]}
        time = values.get("time")
        return cls(
            str(values["chip"]),
            layers,
            kinds,
            bool(values["per_channel"]),
            str(values["model_sha256"]),
            None if time is None else Time.from_json(time),
        )

    @property
    def total(self) -> int:
        """Of all layers and units."""
        return sum(cost.total for cost in self.layers)

    @property
    def of_tensors(self) -> dict[str, Mapping[str, int]]:
        """Cycles by unit, of each tensor."""
        return {cost.name: cost.cycles for cost in self.layers if cost.name}

    def summary(self) -> str:
        """One line."""
        parts = ", ".join(f"{UNITS[unit]} {count / 1e6:.2f} M" for unit, count in totals(self.layers).items())
        moved = sum(cost.read + cost.written for cost in self.layers) / 1e6
        return f"{self.total / 1e6:.2f} M an image ({parts}; {moved:.1f} MB moved), {self.chip}"

    def to_text(self) -> str:
        """The layers that cost most, as a table."""
        rows = [("layer", "operator", *UNITS, "share", "read", "written")]
        for cost in sorted(self.layers, key=lambda cost: -cost.total)[:_SHOWN]:
            cells = (f"{cost.cycles.get(unit, 0):,}" for unit in UNITS)
            share = f"{cost.total / self.total:.1%}"
            name = cost.name or _OTHER
            kind = self.op_types.get(cost.name, "-")
            rows.append((name, kind, *cells, share, f"{cost.read:,}", f"{cost.written:,}"))
        left = len(self.layers) - _SHOWN
        lines = ["cycles of the layers that cost most:", columns(rows)]
        return "\n".join([*lines, f"and {left} more, all of them with --json"] if left > 0 else lines)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "chip": self.chip,
            "total": self.total,
            "units": totals(self.layers),
            "per_channel": self.per_channel,
            "model_sha256": self.model,
            "time": None if self.time is None else self.time.to_json(),
            "layers": [
                {
                    "layer": cost.name,
                    "type": self.op_types.get(cost.name, ""),
                    **{unit: cost.cycles.get(unit, 0) for unit in UNITS},
                    "read": cost.read,
                    "written": cost.written,
                    "share": round(cost.total / self.total, 4),
                }
                for cost in self.layers
            ],
        }

    def findings(self) -> Iterator[Finding]:
        """Advice for each layer that falls to shaders: why, and what keeps it off them."""
        for cost in self.layers:
            if not cost.cycles.get(_SHADER, 0):
                continue
            kind = self.op_types.get(cost.name, "")
            message = f"{kind or 'an operation'}: on shaders in VeriSilicon's emulator"
            yield Finding("shader", cost.name or _OTHER, message, self._mend(kind, cost), False)

    def _mend(self, kind: str, cost: LayerCost) -> str:
        if kind in CONVOLUTIONS and self.per_channel:
            return ONTO_CORES["per_tensor"]
        if kind in CONVOLUTIONS and cost.cycles.get("NN", 0):
            return (
                "the image is brought into the cores' order of values there: nothing is known that avoids it"
            )
        return f"the driver has {kind or 'it'} of this size on no other unit: nothing is known that avoids it"


def measure_cycles(simulation: NpuSimulation, tool: Emulator, chip: str) -> Cycles:
    """Have the emulator's driver compile a network for a chip, and collect what it says of each operation.

    Args:
        simulation: of an INT8 network, with the target's rules.
        tool, chip: see `Emulation`.

    Raises: `ToolError` for an operator that is not known there, and when the emulator ends or says no cycles.
    """
    costs = report(tool, chip, describe_network(simulation, form_of(simulation)))
    kinds = {}
    for op in simulation.graph.operators:
        layer = simulation.graph.network.layers.get(op.name)
        kinds.update(dict.fromkeys([layer.output] if layer else op.results, op.op_type))
    return Cycles(f"{chip}, emulator {tool.version}", costs, kinds, simulation.per_channel)
