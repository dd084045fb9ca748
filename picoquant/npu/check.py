"""`picoquant check`: which parts of a model run on a target's NPU, read from the program that opt writes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.backends.paddle_lite.report import plain_name, report
from picoquant.backends.placement import (
    CONVERSION,
    CPU,
    NPU,
    PartitionedGraph,
    PlacedOperator,
    unpartitioned,
)
from picoquant.backends.source import Source
from picoquant.errors import UserError, WeightsError
from picoquant.int8.paddle.form import without_rounding
from picoquant.npu.cost import Latency, activation_bytes, elements, estimate, macs
from picoquant.npu.lint import (
    Finding,
    granularity,
    lint,
    slots_without_scale,
    weight_type,
    why_on_cpu,
)
from picoquant.npu.partition import float_text, partition_text
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import KEPT_FLOAT
from picoquant.targets.profiles import Target

if TYPE_CHECKING:
    from picoquant.npu.emulated.cycles import Cycles

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class CheckResult:
    """The result of checking one model for one target.

    Attributes:
        target: name of the target.
        device: Paddle Lite's device name; empty for a CPU.
        opt_version: version of the opt that partitioned the network; expected_opt_version: the profile's.
        graph: the network as opt partitioned it. A partition file is used only if layers are kept in float,
            and then lists those layers alone.
        npu_pieces: number of NPU subgraphs.
        cpu_operators: name, type and reason of each operator on the CPU.
        conversions: tensor, kind (`fp32_to_int8`, …) and position: `input`, `output` or `between`.
        operators_without_scales: name, type and the slots without a scale.
        weight_types: number of convolutions of each kind, for example `{"int8 per_channel": 122}`.
        activation_bytes: peak memory of activations, see `cost.activation_bytes`.
        macs: multiply-accumulates of one image on the NPU and on the CPU.
        latency: the estimate of the NPU's latency.
        findings: all findings, broken rules first.
        partition: content of the partition file that leaves float layers on the CPU and results in the fewest
            NPU subgraphs; empty if none is needed or helps.
        pieces_with_partition: number of NPU subgraphs with this partition file.
        cycles: on an emulator of the target's NPU, in place of the estimate; None where it was not run.
    """

    target: str
    device: str
    opt_version: str
    expected_opt_version: str
    graph: PartitionedGraph
    npu_pieces: int
    cpu_operators: tuple[Mapping[str, str], ...]
    conversions: tuple[Mapping[str, str], ...]
    operators_without_scales: tuple[Mapping[str, Any], ...]
    weight_types: Mapping[str, int]
    activation_bytes: int
    macs: Mapping[str, int]
    latency: Latency
    findings: tuple[Finding, ...]
    partition: str
    pieces_with_partition: int
    cycles: Cycles | None = None

    @property
    def rules_broken(self) -> tuple[Finding, ...]:
        """The findings that break a rule of the target."""
        return tuple(finding for finding in self.findings if finding.broken)

    @property
    def npu_tensors(self) -> frozenset[str]:
        """Tensors that the NPU reads or computes where the partition file is used."""
        left = set(self.partition.splitlines())
        kept = [op for op in self.graph.at(NPU) if op.line not in left]
        return frozenset(
            plain_name(name) for op in kept for name in (*(name for _, name in op.inputs), *op.results)
        )

    def to_json(self) -> dict[str, Any]:
        """Everything except `graph`, as JSON values; always the same for the same model and tools."""
        values = {
            "target": self.target,
            "device": self.device,
            "opt_version": self.opt_version,
            "profile_opt_version": self.expected_opt_version,
            "operators": {place: len(self.graph.at(place)) for place in (NPU, CPU)},
            "npu_pieces": self.npu_pieces,
            "cpu_operators": [dict(row) for row in self.cpu_operators],
            "conversions": [dict(row) for row in self.conversions],
            "operators_without_scales": [dict(row) for row in self.operators_without_scales],
            "weight_types": dict(self.weight_types),
            "activation_bytes": self.activation_bytes,
            "macs": dict(self.macs),
            "latency_estimate_ms": _rounded(self.latency.milliseconds),
            "latency_estimate_error": _rounded(self.latency.error),
            "latency_estimate_method": self.latency.method,
            "rules_broken": [_plain(finding) for finding in self.rules_broken],
            "advice": [_plain(finding) for finding in self.findings if not finding.broken],
            "partition_file": self.partition,
            "npu_pieces_with_partition_file": self.pieces_with_partition,
        }
        if self.cycles is not None:
            values = {key: value for key, value in values.items() if not key.startswith("latency_estimate")}
            values["cycles"] = self.cycles.to_json()
        return values


def _plain(finding: Finding) -> dict[str, Any]:
    values = asdict(finding)
    del values["broken"]
    return values


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def check_model(model: ModelFolder, target: Target, opt: OptTool) -> CheckResult:
    """Partition a model with opt, as the board's runtime does, and check it against the target's rules.

    Args:
        model: the INT8 model; for a target without NPU, any exported model.
        target: the board.
        opt: Paddle Lite's opt.

    Raises: `WeightsError` for a float model if the target runs INT8 only, `UserError` for a target that
        Paddle Lite does not support, `ToolError` if opt rejects the model.
    """
    lite = target.paddle_lite
    if lite is None:
        raise UserError(
            f"{target.name} is hardware that Paddle Lite does not reach: opt has nothing to check there; "
            "`picoquant package` compares its ONNX with the Paddle model"
        )
    source = Source(model)
    if target.on_npu and not source.quantised:
        raise WeightsError(
            f"{model.model} is a float model, and the NPU of {target.name} runs INT8 only: run "
            "`picoquant quantize`, and name its folder"
        )
    if opt.version != lite.opt_version:
        LOG.warning(
            "opt is %s, the profile of %s was made with %s: the split on the board may be another",
            opt.version,
            target.name,
            lite.opt_version,
        )
    program = without_rounding(source.program)
    graph = report(source, opt, target).placement
    float_layers = float_text(graph, _kept_float(program)) if target.on_npu else ""
    if float_layers:
        graph = report(source, opt, target, float_layers).placement
    partition, fewest = float_layers, len(graph.subgraphs)
    if target.on_npu and fewest > 1 and partition_text(graph):
        # The file only helps if opt then really makes fewer subgraphs.
        partition = float_layers + partition_text(graph)
        fewest = len(report(source, opt, target, partition).placement.subgraphs)
        if fewest >= len(graph.subgraphs):
            partition, fewest = float_layers, len(graph.subgraphs)
    return _result(graph, unpartitioned(program), target, opt.version, partition, fewest)


def _kept_float(program: Any) -> set[str]:
    """Names of the results of operators that the quantisation settings keep in float."""
    return {
        slot.arguments[0]
        for op in program.blocks[0].ops
        if any(a.name == "op_namescope" and KEPT_FLOAT in a.s for a in op.attrs)
        for slot in op.outputs[:1]
        if slot.arguments
    }


def _result(
    graph: PartitionedGraph,
    source: PartitionedGraph,
    target: Target,
    version: str,
    partition: str,
    fewest: int,
) -> CheckResult:
    without_scales = [(op, slots_without_scale(graph, op, target)) for op in graph.operators]
    on_npu, on_cpu = graph.at(NPU), graph.at(CPU)
    npu_macs = macs(graph, on_npu)
    weight_types = Counter(
        f"{weight_type(graph, op)} {granularity(graph, op) or 'without scales'}"
        for op in (*on_npu, *on_cpu)
        if weight_type(graph, op) is not None
    )
    per_channel = sum(count for name, count in weight_types.items() if name.endswith("per_channel"))
    weights = "per_channel" if 2 * per_channel >= sum(weight_types.values()) else "per_tensor"
    return CheckResult(
        target=target.name,
        device=target.paddle_lite.device,
        opt_version=version,
        expected_opt_version=target.paddle_lite.opt_version,
        graph=graph,
        npu_pieces=len(graph.subgraphs),
        cpu_operators=tuple(
            {"operator": op.name, "type": op.op_type, "why": _why(graph, op, target)} for op in on_cpu
        ),
        conversions=_conversions(graph),
        operators_without_scales=tuple(
            {"operator": op.name, "type": op.op_type, "slots": slots} for op, slots in without_scales if slots
        ),
        weight_types=dict(sorted(weight_types.items())),
        activation_bytes=activation_bytes(graph if target.on_npu else source),
        macs={NPU: npu_macs, CPU: macs(source, source.operators) - npu_macs},
        latency=_latency(graph, target, weights),
        findings=tuple(lint(graph, target)),
        partition=partition,
        pieces_with_partition=fewest,
    )


def _latency(graph: PartitionedGraph, target: Target, weights: str) -> Latency:
    if not target.on_npu:
        return Latency(None, None, f"no estimate: {target.name} has no NPU, and estimates are of NPU times")
    if not graph.subgraphs:
        return Latency(None, None, "no estimate: nothing of the network runs on the NPU")
    return estimate(target.latency_ms, weights, elements(graph, graph.at(NPU)) / 1e6)


def _why(graph: PartitionedGraph, op: PlacedOperator, target: Target) -> str:
    if target.on_npu and weight_type(graph, op) == "float32":
        return "it is kept in float (Quantize.keep_float or max_drop), and the NPU takes INT8"
    return why_on_cpu(op, target)


def _conversions(graph: PartitionedGraph) -> tuple[Mapping[str, str], ...]:
    rows = []
    for op in graph.at(CONVERSION):
        before, after = plain_name(op.inputs[0][1]), plain_name(op.outputs[0][1])
        where = "input" if before in graph.inputs else "output" if after in graph.outputs else "between"
        rows.append(
            {"tensor": after, "kind": op.kernel if op.op_type == "calib" else op.op_type, "where": where}
        )
    return tuple(rows)
