"""`picoquant check` on an Arm Ethos-U: what of a model its compiler Vela gives to the NPU, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from picoquant.backends.base import Found
from picoquant.backends.ethos_u.report import report
from picoquant.backends.placement import CPU, NPU, BoardReport
from picoquant.backends.source import Source
from picoquant.errors import WeightsError
from picoquant.npu.lint import Finding
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.targets.profiles import EthosU, Target

_SHOWN = 8  # the most operators on the CPU that are listed
_METHOD = "estimated by Vela for this configuration, not measured"


@dataclass(frozen=True)
class VelaCheck:
    """The result of checking one model for one target.

    Attributes:
        target: name of the target.
        settings: that Vela was called with.
        version: of Vela.
        board: what it says.
    """

    target: str
    settings: EthosU
    version: str
    board: BoardReport

    @property
    def rules_broken(self) -> tuple[Finding, ...]:
        """A finding for each operator on the CPU: these targets run INT8 networks whole on the NPU."""
        return tuple(
            Finding(
                "on_cpu",
                name,
                f"{kind} is left to the CPU by Vela",
                "see Vela's --supported-ops-report; another head or activation may do without",
                True,
            )
            for kind, name in self.board.on_cpu
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; always the same for the same model and tools."""
        board = self.board
        return {
            "target": self.target,
            "vela_version": self.version,
            "accelerator": self.settings.accelerator,
            "system_config": self.settings.system_config,
            "memory_mode": self.settings.memory_mode,
            "operators": {place: board.operators[place] for place in (NPU, CPU)},
            "cpu_operators": [{"operator": name, "type": kind} for kind, name in board.on_cpu],
            "cycles": board.cycles,
            "clock_hz": board.clock,
            "memory_bytes": dict(board.memory),
            "latency_estimate_ms": float(f"{board.milliseconds:.3g}"),
            "latency_estimate_method": _METHOD,
            "rules_broken": [
                {"rule": one.rule, "operator": one.operator, "message": one.message, "mend": one.mend}
                for one in self.rules_broken
            ],
        }

    def to_text(self) -> str:
        """A table, then the operators on the CPU."""
        board, settings = self.board, self.settings
        memory = ", ".join(f"{size / 1024:.0f} KiB {name}" for name, size in board.memory.items())
        rows = [
            ("target", f"{self.target}, {settings.accelerator}, Vela {self.version}"),
            ("configuration", f"{settings.system_config}, {settings.memory_mode}"),
            ("operators", f"{board.operators[NPU]} NPU, {board.operators[CPU]} CPU"),
            ("cycles", f"{board.cycles / 1e6:.2f} M at {board.clock / 1e6:.0f} MHz"),
            ("memory", memory),
            ("latency", f"{board.milliseconds:.3g} ms ({_METHOD})"),
        ]
        lines = [f"{name:<16}{value}" for name, value in rows]
        if board.on_cpu:
            shown = [f"  {kind}: {name}" for kind, name in board.on_cpu[:_SHOWN]]
            more = len(board.on_cpu) - len(shown)
            lines += [
                "",
                "on the CPU:",
                *shown,
                *([f"  and {more} more, all of them with --json"] if more else []),
            ]
        else:
            lines += ["", f"the whole network runs on the NPU of {self.target}"]
        return "\n".join(lines)


def check_with_vela(model: ModelFolder, target: Target, tool: Found) -> VelaCheck:
    """Compile a model with Vela and read its report.

    Args:
        model: the INT8 model.
        target: with Vela's settings.
        tool: Vela.

    Raises: `WeightsError` for a float model, `ToolError` if TFLite or Vela does not take the model.
    """
    source = Source(model)
    if not source.quantised:
        raise WeightsError(
            f"{model.model} is a float model, and the NPU of {target.name} runs INT8 only: run "
            "`picoquant quantize`, and name its folder"
        )
    return VelaCheck(target.name, target.ethos_u, tool.version, report(source, tool, target))
