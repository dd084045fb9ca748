"""`picoquant check` on an Arm Ethos-U: what of a model its compiler Vela gives to the NPU, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from picoquant.backends.base import Found
from picoquant.backends.ethos_u.report import report
from picoquant.backends.placement import BoardReport
from picoquant.backends.source import Source
from picoquant.errors import WeightsError
from picoquant.npu.compiled import left_to_cpu, placement_json, placement_text
from picoquant.npu.lint import Finding
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.targets.profiles import EthosU, Target

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
        """A finding for each operator on the CPU."""
        mend = "see Vela's --supported-ops-report; another head or activation may do without"
        return left_to_cpu(self.board, "Vela", mend)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; always the same for the same model and tools."""
        return {
            "target": self.target,
            "vela_version": self.version,
            "accelerator": self.settings.accelerator,
            "system_config": self.settings.system_config,
            "memory_mode": self.settings.memory_mode,
            "clock_hz": self.board.clock,
            "latency_estimate_ms": float(f"{self.board.milliseconds:.3g}"),
            "latency_estimate_method": _METHOD,
            **placement_json(self.board, self.rules_broken),
        }

    def to_text(self) -> str:
        """A table, then the operators on the CPU."""
        board, settings = self.board, self.settings
        rows = (
            ("target", f"{self.target}, {settings.accelerator}, Vela {self.version}"),
            ("configuration", f"{settings.system_config}, {settings.memory_mode}"),
            ("operators", ""),
            ("cycles", f"{board.cycles / 1e6:.2f} M at {board.clock / 1e6:.0f} MHz"),
            ("memory", ""),
            ("latency", f"{board.milliseconds:.3g} ms ({_METHOD})"),
        )
        return placement_text(board, self.target, rows)


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
