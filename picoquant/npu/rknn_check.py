"""`picoquant check` on a Rockchip NPU: where rknn-toolkit2 places operators, and what it says of their cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from picoquant.backends.base import Found
from picoquant.backends.placement import CPU, NPU, BoardReport
from picoquant.backends.rknn import BACKENDS
from picoquant.backends.rknn.platforms import platform_of
from picoquant.backends.rknn.report import report
from picoquant.backends.source import Source
from picoquant.errors import SchemeError, WeightsError
from picoquant.npu.lint import Finding
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.targets.profiles import Target

_SHOWN = 8  # the most operators on the CPU that are listed
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
        return tuple(
            Finding(
                "on_cpu",
                name,
                f"{kind} is left to the CPU by rknn-toolkit2",
                "another head or activation may do without",
                True,
            )
            for kind, name in self.board.on_cpu
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; always the same for the same model and tools."""
        board = self.board
        return {
            "target": self.target,
            "platform": self.platform,
            "rknn_toolkit2_version": self.version,
            "operators": {place: board.operators[place] for place in (NPU, CPU)},
            "cpu_operators": [{"operator": name, "type": kind} for kind, name in board.on_cpu],
            "cycles": board.cycles,
            "memory_bytes": dict(board.memory),
            "cycles_method": _METHOD,
            "rules_broken": [
                {"rule": one.rule, "operator": one.operator, "message": one.message, "mend": one.mend}
                for one in self.rules_broken
            ],
        }

    def to_text(self) -> str:
        """A table, then the operators on the CPU."""
        board = self.board
        rows = [
            ("target", f"{self.target}, {self.platform}, rknn-toolkit2 {self.version}"),
            ("operators", f"{board.operators[NPU]} NPU, {board.operators[CPU]} CPU"),
            ("cycles", f"{board.cycles / 1e6:.2f} M ({_METHOD})"),
            ("memory", ", ".join(f"{size / 1024:.0f} KiB {name}" for name, size in board.memory.items())),
        ]
        lines = [f"{name:<16}{value}" for name, value in rows]
        if not board.on_cpu:
            return "\n".join([*lines, "", f"the whole network runs on the NPU of {self.target}"])
        shown = [f"  {kind}: {name}" for kind, name in board.on_cpu[:_SHOWN]]
        more = len(board.on_cpu) - len(shown)
        rest = [f"  and {more} more, all of them with --json"] if more else []
        return "\n".join([*lines, "", "on the CPU:", *shown, *rest])


def check_with_rknn(model: ModelFolder, target: Target, tool: Found) -> RknnCheck:
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
