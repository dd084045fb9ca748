"""`picoquant check` on a Rockchip NPU: where rknn-toolkit2 places operators, and what it says of their cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.placement import BoardReport
from picoquant.backends.rknn import BACKENDS
from picoquant.backends.rknn.platforms import platform_of
from picoquant.backends.rknn.report import report
from picoquant.backends.source import Source
from picoquant.errors import SchemeError, WeightsError
from picoquant.npu.compiled import left_to_cpu, placement_json, placement_text
from picoquant.npu.lint import Finding
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.targets.profiles import Target

_METHOD = "estimated by rknn-toolkit2 for one core, not measured; it gives no time without a board"


@dataclass(frozen=True)
class RknnCheck:
    """The result of checking one model for one target.

    Attributes:
        target: name of the target.
        platform: the toolkit's name of the chip.
        version: of rknn-toolkit2.
        board: what it says.
    """

    target: str
    platform: str
    version: str
    board: BoardReport

    @property
    def rules_broken(self) -> tuple[Finding, ...]:
        """A finding for each operator on the CPU."""
        return left_to_cpu(self.board, "rknn-toolkit2", "another head or activation may do without")

    def to_json(self) -> dict[str, Any]:
        """As JSON values; always the same for the same model and tools."""
        return {
            "target": self.target,
            "platform": self.platform,
            "rknn_toolkit2_version": self.version,
            "cycles_method": _METHOD,
            **placement_json(self.board, self.rules_broken),
        }

    def to_text(self) -> str:
        """A table, then the operators on the CPU."""
        rows = (
            ("target", f"{self.target}, {self.platform}, rknn-toolkit2 {self.version}"),
            ("operators", ""),
            ("cycles", f"{self.board.cycles / 1e6:.2f} M ({_METHOD})"),
            ("memory", ""),
        )
        return placement_text(self.board, self.target, rows)


def check_with_rknn(model: ModelFolder, target: Target, tool: OwnTool) -> RknnCheck:
    """Build a model with rknn-toolkit2 and read its report.

    Args:
        model: the INT8 model.
        target: whose SoC the toolkit builds for.
        tool: the toolkit.

    Raises: `WeightsError` for a float model, `SchemeError` for one that an `.rknn` cannot hold, `ToolError` if the
        toolkit does not take it or the chip.
    """
    source = Source(model)
    if not source.quantised:
        raise WeightsError(
            f"{model.model} is a float model, and the .rknn of {target.name} is INT8: run `picoquant quantize`, and "
            "name its folder"
        )
    lacking = BACKENDS[0].scheme.lacks(source.network)
    if lacking:
        raise SchemeError(f"rknn cannot hold {model.path}: {lacking}")
    return RknnCheck(target.name, platform_of(target), tool.version, report(source, tool, target))
