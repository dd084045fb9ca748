"""The result of a check as text for a terminal."""

from __future__ import annotations

from collections import Counter

from picoquant.backends.placement import CPU, NPU
from picoquant.npu.check import CheckResult

NO_TIME = "unknown: of cycles on shaders, or of this chip, none is made"
_SHOWN = 8  # the most findings of one rule that are listed


def text_report(result: CheckResult) -> str:
    """A table, then the operators on the CPU, broken rules and advice."""
    latency, graph = result.latency, result.graph
    time = "-" if latency.milliseconds is None else f"{latency.milliseconds:.3g} ms"
    error = "" if latency.error is None else f", off by up to {latency.error:.0%} on the published table"
    where = Counter(row["where"] for row in result.conversions)
    conversions = ", ".join(f"{count} {place}" for place, count in sorted(where.items()))
    rows = [
        ("target", f"{result.target}, {result.device or 'CPU'}, opt {result.opt_version}"),
        ("NPU pieces", str(result.npu_pieces)),
        ("operators", f"{len(graph.at(NPU))} NPU, {len(graph.at(CPU))} CPU"),
        ("conversions", f"{len(result.conversions)}" + (f": {conversions}" if conversions else "")),
        ("without scales", str(len(result.operators_without_scales))),
        ("weights", ", ".join(f"{count} {name}" for name, count in result.weight_types.items()) or "-"),
        ("activations", f"{result.activation_bytes / 1e6:.2f} MB at one time"),
        ("multiply-adds", f"{result.macs[NPU] / 1e6:.1f} M NPU, {result.macs[CPU] / 1e6:.1f} M CPU"),
    ]
    if result.cycles is None:
        rows.append(("latency", f"{time} ({latency.method}{error})"))
    else:
        rows.append(("cycles", result.cycles.summary()))
        rows.append(("time", result.cycles.time.to_text() if result.cycles.time else NO_TIME))
    lines = [f"{name:<16}{value}" for name, value in rows]
    if result.device:
        lines += _cpu_lines(result)
    lines += _findings(result, True, "rules broken") + _findings(result, False, "advice")
    if result.partition:
        count, subgraphs = len(result.partition.splitlines()), result.pieces_with_partition
        left = f"{subgraphs} NPU piece{'s' * (subgraphs != 1)}"
        lines += ["", f"partition file: {count} operators to the CPU leave {left}"]
    if not result.rules_broken:
        lines += ["", f"every rule of {result.target} is kept"]
    return "\n".join(lines)


def _cpu_lines(result: CheckResult) -> list[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for row in result.cpu_operators:
        groups.setdefault((row["type"], row["why"]), []).append(row["operator"])
    lines = ["", "on the CPU:"] if groups else []
    for (op_type, why), names in groups.items():
        lines.append(f"  {len(names)} x {op_type} ({_some(names)}): {why}")
    return lines


def _findings(result: CheckResult, broken: bool, title: str) -> list[str]:
    groups: dict[tuple[str, str], list] = {}
    for finding in result.findings:
        if finding.broken == broken:
            groups.setdefault((finding.rule, finding.mend if not broken else ""), []).append(finding)
    lines = ["", f"{title}:"] if groups else []
    for (rule, _), findings in groups.items():
        if not broken:
            names = [finding.operator for finding in findings]
            lines.append(
                f"  {rule}: {len(findings)} x {findings[0].message} ({_some(names)}) -> {findings[0].mend}"
            )
            continue
        for finding in findings[:_SHOWN]:
            at = f"{finding.operator}: " if finding.operator else ""
            lines.append(f"  {rule}: {at}{finding.message} -> {finding.mend}")
        if len(findings) > _SHOWN:
            lines.append(f"  {rule}: and {len(findings) - _SHOWN} more, all of them with --json")
    return lines


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
