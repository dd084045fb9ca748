"""What is said of a model that a vendor's compiler has placed on its NPU: findings, values, a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from picoquant.backends.placement import CPU, NPU, BoardReport
from picoquant.npu.lint import Finding

_SHOWN = 8  # the most operators on the CPU that are listed


def left_to_cpu(board: BoardReport, compiler: str, mend: str) -> tuple[Finding, ...]:
    """A finding for each operator on the CPU: these targets run INT8 networks whole on the NPU.

    Args:
        board: what the compiler says.
        compiler: its name.
        mend: what may help.
    """
    return tuple(
        Finding("on_cpu", name, f"{kind} is left to the CPU by {compiler}", mend, True)
        for kind, name in board.on_cpu
    )


def placement_json(board: BoardReport, broken: Sequence[Finding]) -> dict[str, Any]:
    """What a report and its findings have in common, as JSON values."""
    return {
        "operators": {place: board.operators[place] for place in (NPU, CPU)},
        "cpu_operators": [{"operator": name, "type": kind} for kind, name in board.on_cpu],
        "cycles": board.cycles,
        "memory_bytes": dict(board.memory),
        "rules_broken": [
            {"rule": one.rule, "operator": one.operator, "message": one.message, "mend": one.mend}
            for one in broken
        ],
    }


def placement_text(board: BoardReport, target: str, rows: Sequence[tuple[str, str]]) -> str:
    """A table of titles and values, then the operators on the CPU.

    Args:
        board: what the compiler says.
        target: name of the target.
        rows: of the table; operators and memory are added as `operators` and `memory` where their value is empty.
    """
    known = {
        "operators": f"{board.operators[NPU]} NPU, {board.operators[CPU]} CPU",
        "memory": ", ".join(f"{size / 1024:.0f} KiB {name}" for name, size in board.memory.items()),
    }
    lines = [f"{title:<16}{value or known[title]}" for title, value in rows]
    if not board.on_cpu:
        return "\n".join([*lines, "", f"the whole network runs on the NPU of {target}"])
    shown = [f"  {kind}: {name}" for kind, name in board.on_cpu[:_SHOWN]]
    more = len(board.on_cpu) - len(shown)
    rest = [f"  and {more} more, all of them with --json"] if more else []
    return "\n".join([*lines, "", "on the CPU:", *shown, *rest])
