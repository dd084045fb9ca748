"""`picoquant check`: what of a model runs on a target's NPU, proved from opt's own result."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.errors import UserError, WeightsError
from picoquant.int8.paddle.form import files_without_rounding
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
from picoquant.npu.partitioned import (
    CONVERSION,
    CPU,
    NPU,
    PartitionedGraph,
    PlacedOperator,
    plain_name,
    read_partitioned,
    unpartitioned,
)
from picoquant.paddle_program.edit import batch_of_one, smaller_for_opt, write_program
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import KEPT_FLOAT, program_facts
from picoquant.targets.profiles import Target

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class CheckResult:
    """What was found.

    Attributes:
        target: its name.
        device: of Paddle Lite; empty for a CPU.
        opt_version: of the opt that split the network; expected_opt_version: the profile's.
        split: the network as opt left it, without a partition file but for layers that are kept in float.
        npu_pieces: how many.
        cpu_operators: name, type and why, of each.
        conversions: tensor, kind (`fp32_to_int8`, …) and where: `input`, `output` or `between`.
        operators_without_scales: name, type and the slots that lack one.
        weight_types: for example `{"int8 per_channel": 122}`, counted over convolutions.
        activation_bytes: the most at one time; see `cost.activation_bytes`.
        macs: multiply-accumulates of one image on the NPU and on the CPU.
        latency: the estimate.
        findings: all of them, broken rules first.
        partition: the partition file that leaves layers in float to the CPU and keeps the pieces fewest; empty
            where none is needed or helps.
        pieces_with_partition: how many pieces opt then makes.
    """

    target: str
    device: str
    opt_version: str
    expected_opt_version: str
    split: PartitionedGraph
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

    @property
    def rules_broken(self) -> tuple[Finding, ...]:
        """The findings that break a rule of the target."""
        return tuple(finding for finding in self.findings if finding.broken)

    def to_json(self) -> dict[str, Any]:
        """Everything but the network itself, JSON-able; the same model and tools give the same."""
        return {
            "target": self.target,
            "device": self.device,
            "opt_version": self.opt_version,
            "profile_opt_version": self.expected_opt_version,
            "operators": {place: len(self.split.at(place)) for place in (NPU, CPU)},
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


def _plain(finding: Finding) -> dict[str, Any]:
    values = asdict(finding)
    del values["broken"]
    return values


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def check_model(model: ModelFolder, target: Target, opt: OptTool) -> CheckResult:
    """Split a model by opt as the board's runtime would, and hold the result against the target's rules.

    Args:
        model: the INT8 model; for a target without NPU any exported one.
        target: the board.
        opt: Paddle Lite's opt.

    Raises: `WeightsError` for a float model where the target runs INT8 only, `UserError` for a target that Paddle
        Lite does not reach, `ToolError` when opt refuses the model.
    """
    lite = target.paddle_lite
    if lite is None:
        raise UserError(
            f"{target.name} is hardware that Paddle Lite does not reach: opt has nothing to check there; "
            "`picoquant package` compares its ONNX with the Paddle model"
        )
    if target.on_npu and not program_facts(model.model).quantised:
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
    program = batch_of_one(model.model, model.config.input_size)
    shapes = {
        var.name: tuple(var.type.lod_tensor.tensor.dims)
        for block in program.blocks
        for var in block.vars
        if var.type.HasField("lod_tensor")
    }
    with tempfile.TemporaryDirectory(prefix="picoquant-check-") as scratch:
        program, params = files_without_rounding(program, model.params, Path(scratch) / "model.pdiparams")
        return _checked(program, shapes, params, target, opt)


def _checked(
    program: Any, shapes: Mapping[str, tuple[int, ...]], params: Path, target: Target, opt: OptTool
) -> CheckResult:
    split = _split(program, shapes, params, target, opt)
    given = float_text(split, _kept_float(program)) if target.on_npu else ""
    if given:
        split = _split(program, shapes, params, target, opt, given)
    partition, fewest = given, len(split.subgraphs)
    if target.on_npu and fewest > 1 and partition_text(split):
        partition = given + partition_text(split)
        fewest = len(_split(program, shapes, params, target, opt, partition).subgraphs)
        if fewest >= len(split.subgraphs):
            partition, fewest = given, len(split.subgraphs)
    return _result(split, unpartitioned(program), target, opt.version, partition, fewest)


def _kept_float(program: Any) -> set[str]:
    """Results of the operators that quantisation has left in float because it was told to."""
    return {
        slot.arguments[0]
        for op in program.blocks[0].ops
        if any(a.name == "op_namescope" and KEPT_FLOAT in a.s for a in op.attrs)
        for slot in op.outputs[:1]
        if slot.arguments
    }


def _split(
    program: Any,
    shapes: Mapping[str, tuple[int, ...]],
    params: Path,
    target: Target,
    opt: OptTool,
    partition: str = "",
) -> PartitionedGraph:
    with tempfile.TemporaryDirectory(prefix="picoquant-check-") as scratch:
        model, made = Path(scratch) / "model.pdmodel", Path(scratch) / "made"
        write_program(smaller_for_opt(program) if target.on_npu else program, model)
        opt.run(model, params, made, target.paddle_lite.valid_targets, "protobuf", partition=partition)
        return read_partitioned(made, shapes)


def _result(
    split: PartitionedGraph,
    source: PartitionedGraph,
    target: Target,
    version: str,
    partition: str,
    fewest: int,
) -> CheckResult:
    lacking = [(op, slots_without_scale(split, op, target)) for op in split.operators]
    on_npu, on_cpu = split.at(NPU), split.at(CPU)
    work = macs(split, on_npu)
    kinds = Counter(
        f"{weight_type(split, op)} {granularity(split, op) or 'without scales'}"
        for op in (*on_npu, *on_cpu)
        if weight_type(split, op) is not None
    )
    per_channel = sum(count for kind, count in kinds.items() if kind.endswith("per_channel"))
    weights = "per_channel" if 2 * per_channel >= sum(kinds.values()) else "per_tensor"
    return CheckResult(
        target=target.name,
        device=target.paddle_lite.device,
        opt_version=version,
        expected_opt_version=target.paddle_lite.opt_version,
        split=split,
        npu_pieces=len(split.subgraphs),
        cpu_operators=tuple(
            {"operator": op.name, "type": op.op_type, "why": _why(split, op, target)} for op in on_cpu
        ),
        conversions=_conversions(split),
        operators_without_scales=tuple(
            {"operator": op.name, "type": op.op_type, "slots": slots} for op, slots in lacking if slots
        ),
        weight_types=dict(sorted(kinds.items())),
        activation_bytes=activation_bytes(split if target.on_npu else source),
        macs={NPU: work, CPU: macs(source, source.operators) - work},
        latency=_latency(split, target, weights),
        findings=tuple(lint(split, target)),
        partition=partition,
        pieces_with_partition=fewest,
    )


def _latency(split: PartitionedGraph, target: Target, weights: str) -> Latency:
    if not target.on_npu:
        return Latency(None, None, f"no estimate: {target.name} has no NPU, and estimates are of NPU times")
    if not split.subgraphs:
        return Latency(None, None, "no estimate: nothing of the network runs on the NPU")
    return estimate(target.latency_ms, weights, elements(split, split.at(NPU)) / 1e6)


def _why(split: PartitionedGraph, op: PlacedOperator, target: Target) -> str:
    if target.on_npu and weight_type(split, op) == "float32":
        return "it is kept in float (Quantize.keep_float or max_drop), and the NPU takes INT8"
    return why_on_cpu(op, target)


def _conversions(split: PartitionedGraph) -> tuple[Mapping[str, str], ...]:
    rows = []
    for op in split.at(CONVERSION):
        before, after = plain_name(op.inputs[0][1]), plain_name(op.outputs[0][1])
        where = "input" if before in split.inputs else "output" if after in split.outputs else "between"
        rows.append(
            {"tensor": after, "kind": op.kernel if op.op_type == "calib" else op.op_type, "where": where}
        )
    return tuple(rows)
