"""Checks a partitioned network against a target's rules; each finding names the operator and how to fix it.

On the boards, a model that breaks one of these rules fails with messages that name no operator; so the rules
are checked here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from picoquant.backends.paddle_lite.report import plain_name
from picoquant.backends.placement import CPU, NPU, PartitionedGraph, PlacedOperator
from picoquant.backends.verisilicon.emulator import KEEPS_INT8
from picoquant.npu.cost import CONVOLUTIONS
from picoquant.paddle_program.graph import BOOKKEEPING
from picoquant.targets.profiles import Target

_FLOATS = ("float32", "float16", "int8", "")
_POST = "export without post-processing (export.post_process: false); the host does it, see docs/npu.md"
_POST_OP_TYPES = ("sqrt", "multiclass_nms3", "matrix_nms", "top_k_v2", "where_index", "gather_nd", "range")
_SCHEMES = {"per_channel": "a scale for each channel", "per_tensor": "one scale for the whole weight"}
ONTO_CORES = {
    "per_tensor": "set QuantAware.weight_quantize_type=abs_max",
    "per_channel": "set QuantAware.weight_quantize_type=channel_wise_abs_max",
}
_ALWAYS_ZERO = 1e-10  # a scale below this means that the tensor was 0 on every calibration image


@dataclass(frozen=True)
class Finding:
    """A broken rule or a piece of advice, about one operator or the whole network.

    Attributes:
        rule: short name of the rule.
        operator: name of the operator or tensor; empty for the whole network.
        message: what was found.
        mend: how to fix it.
        broken: True if a rule of the target is broken, False for advice.
    """

    rule: str
    operator: str
    message: str
    mend: str
    broken: bool = True


def lint(graph: PartitionedGraph, target: Target) -> list[Finding]:
    """All findings about a partitioned network, broken rules first.

    Args:
        graph: the network as opt partitioned it.
        target: the board whose rules are checked.
    """
    findings = [*_inputs(graph, target), *_scales(graph, target)]
    if target.on_npu:
        findings += [*_subgraphs(graph, target), *_borders(graph), *_tables(graph, target)]
        for op in graph.at(NPU):
            findings += [*_weights(graph, op, target), *_attributes(op), *_shapes(graph, op)]
    return sorted(findings, key=lambda finding: not finding.broken)


def why_on_cpu(op: PlacedOperator, target: Target) -> str:
    """Why an operator is not on the NPU."""
    lite = target.paddle_lite
    if lite is None or not target.on_npu:
        return "the target has no NPU"
    if op.op_type not in lite.operators:
        return f"opt {lite.operators.opt_version} has no converter of {op.op_type} for {lite.device}"
    return (
        f"opt has a converter of {op.op_type}, but left this one: its attributes, types or scales do not fit"
    )


def _inputs(graph: PartitionedGraph, target: Target) -> Iterator[Finding]:
    if "scale_factor" in graph.inputs:
        message = "the network takes scale_factor, so a part of the post-processing is inside"
        yield Finding("no_scale_factor", "scale_factor", message, _POST, target.on_npu)


def _subgraphs(graph: PartitionedGraph, target: Target) -> Iterator[Finding]:
    count = len(graph.subgraphs)
    left = sorted({op.op_type for op in graph.at(CPU)})
    if count == 0:
        message = f"nothing of it runs on the NPU; on the CPU: {', '.join(left) or 'everything'}"
        yield Finding("one_piece", "", message, "quantise it, and check with opt of the profile's version")
    if count > 1:
        first = graph.at(CPU)[0] if graph.at(CPU) else None
        if set(left) & set(_POST_OP_TYPES):
            mend = _POST
        elif all(weight_type(graph, op) == "float32" for op in graph.at(CPU)):
            mend = "quantise these layers, too: leave Quantize.keep_float and Quantize.max_drop out"
        else:
            mend = "replace what has no NPU converter"
        message = f"{count} NPU pieces instead of one, between operators on the CPU: {', '.join(left)}"
        yield Finding("one_piece", first.name if first else "", message, mend)
    ends, found = len(graph.inputs) + len(graph.outputs), len(graph.at("conversion"))
    if count and found > ends:
        message = f"{found} conversions for {ends} network inputs and outputs"
        yield Finding("conversions", "", message, "see one_piece: each further piece brings its own")


def _scales(graph: PartitionedGraph, target: Target) -> Iterator[Finding]:
    for op in graph.operators:
        for slot in slots_without_scale(graph, op, target):
            message = f"{op.op_type} has no quantisation scale for {slot}"
            mend = (
                f"quantise again, so that {slot} of {op.name} is calibrated (tensor {_tensor_at(op, slot)})"
            )
            yield Finding("scales", op.name, message, mend)
        for slot, _ in (*op.inputs, *op.outputs):
            values = op.scale(slot) if op.place == NPU and not slot.startswith(BOOKKEEPING) else None
            if values and not all(math.isfinite(value) and value > 0 for value in values):
                message = f"{op.op_type}: the scale of {slot} is {values[0]}"
                yield Finding("scales", op.name, message, "calibrate with images that reach this operator")
            elif values and max(values) < _ALWAYS_ZERO:
                message = f"{op.op_type}: {slot} was 0 on all calibration images (scale {max(values):.1e})"
                yield Finding(
                    "dead", op.name, message, "is the network trained, are the images prepared?", False
                )


def slots_without_scale(graph: PartitionedGraph, op: PlacedOperator, target: Target) -> list[str]:
    """Slots of an operator that require a scale and have none.

    On an NPU all inputs and outputs require one, on a CPU the inputs. Stored biases do not: the driver
    derives their scale from those of input and weight.
    """
    needed = target.quantization.needs_scales
    if target.on_npu:
        if op.place != NPU or (needed != ("all",) and op.op_type not in needed):
            return []
        slots = (*op.inputs, *op.outputs)
    elif op.place == CPU and op.attributes.get("enable_int8") and op.op_type in needed:
        slots = op.inputs
    else:
        return []
    missing = []
    for slot, name in slots:
        tensor = graph.tensor(name)
        computed = not tensor.stored or slot == "Filter0"
        if slot.startswith(BOOKKEEPING) or not computed or tensor.dtype not in _FLOATS:
            continue
        if op.scale(slot) is None:
            missing.append(slot)
    return missing


def _tensor_at(op: PlacedOperator, slot: str) -> str:
    return next(name for known, name in (*op.inputs, *op.outputs) if known == slot)


def _borders(graph: PartitionedGraph) -> Iterator[Finding]:
    """Float tensors that enter or leave a subgraph must have a rank of at least 2."""
    for number, subgraph in enumerate(graph.subgraphs):
        computed = {name for op in subgraph for _, name in op.outputs}
        outside = {name for op in graph.operators if op.subgraph != number for _, name in op.inputs}
        for op in subgraph:
            crossing = [name for slot, name in op.inputs if name not in computed]
            crossing += [
                name for slot, name in op.outputs if name in outside and not slot.startswith(BOOKKEEPING)
            ]
            for name in crossing:
                tensor = graph.tensor(name)
                shape = tensor.shape
                if tensor.stored or shape is None or len(shape) > 1 or tensor.dtype not in _FLOATS:
                    continue
                message = f"{op.op_type}: {plain_name(name)} at the NPU's border has rank {len(shape)}"
                yield Finding("border_rank", op.name, message, "give it a leading dimension of 1 (unsqueeze)")


def granularity(graph: PartitionedGraph, op: PlacedOperator) -> str | None:
    """Granularity of a convolution's weight scales; None if it has none, and for other operators.

    Returns: `per_channel`, `per_tensor`, or `of one channel` for a weight with one output channel, which is
        both.
    """
    scales = op.scale("Filter0") if op.op_type in CONVOLUTIONS else None
    if scales is None:
        return None
    names = [name for slot, name in op.inputs if slot == "Filter0"]
    channels = (graph.tensor(names[0]).shape or (0,))[0]
    if channels == 1:
        return "of one channel"
    return "per_channel" if len(set(scales)) > 1 else "per_tensor"


def weight_type(graph: PartitionedGraph, op: PlacedOperator) -> str | None:
    """The type of a convolution's stored weight, for example `int8`; None for other operators."""
    names = [name for slot, name in op.inputs if slot == "Filter0"]
    return graph.tensor(names[0]).dtype if names and op.op_type in CONVOLUTIONS else None


def _weights(graph: PartitionedGraph, op: PlacedOperator, target: Target) -> Iterator[Finding]:
    rules, dtype = target.quantization, weight_type(graph, op)
    if dtype not in (None, "int8"):
        mend = f"add {op.op_type} to QuantAware.quantize_op_types and quantise again"
        yield Finding("weights_int8", op.name, f"{op.op_type}: its weight is {dtype}, not int8", mend)
    weights = granularity(graph, op)
    if rules.unit_of(weights or "") == "shader":
        message = (
            f"{op.op_type}: {_SCHEMES[weights]}, which {target.soc} computes on shaders, not on its NN cores"
        )
        better = next((one for one in ("per_tensor", "per_channel") if rules.unit_of(one) == "nn"), None)
        mend = (
            f"{ONTO_CORES[better]}, and quantise again" if better else "no INT8 scheme is known to be faster"
        )
        yield Finding("shader", op.name, message, mend, False)
    elif rules.weights == "per_tensor" and weights == "per_channel":
        message = f"{op.op_type}: a scale for each channel, but {target.name} takes one for the whole weight"
        taken = target.verisilicon is not None  # such a chip takes both, see `_tables`
        yield Finding("granularity", op.name, message, "QuantAware.weight_quantize_type=abs_max", not taken)
    bits = op.attributes.get("bit_length")
    if dtype == "int8" and isinstance(bits, int) and bits > rules.weight_bits:
        message = f"{op.op_type}: {bits}-bit numbers, but {target.name} takes {rules.weight_bits}"
        yield Finding("bits", op.name, message, f"QuantAware.weight_bits={rules.weight_bits}")
    if op.op_type == "batch_norm":
        message = "batch_norm is left for the driver to fold, which rounds the INT8 weights a second time"
        mend = "fold it before quantisation (picoquant quantize does)"
        yield Finding("batch_norm", op.name, message, mend, False)


def _tables(graph: PartitionedGraph, target: Target) -> Iterator[Finding]:
    """A hard sigmoid right behind a convolution with a scale for each channel, see docs/simulation.md.

    Only where the profile does not set what keeps VeriSilicon's driver from it.
    """
    if target.verisilicon is None or target.environment.get(KEEPS_INT8) == "0":
        return
    npu = graph.at(NPU)
    by_channel = {name for op in npu if granularity(graph, op) == "per_channel" for _, name in op.outputs}
    for op in npu:
        if op.op_type == "hard_sigmoid" and any(name in by_channel for _, name in op.inputs):
            message = (
                "hard_sigmoid behind a convolution with a scale for each channel: VeriSilicon's emulator runs the two "
                f"as one and makes every negative value the largest, and {target.soc} may do the same"
            )
            mend = f'set {KEEPS_INT8}: "0" in the environment of the profile'
            yield Finding("tables", op.name, message, mend, False)


def _attributes(op: PlacedOperator) -> Iterator[Finding]:
    attributes = op.attributes
    if op.op_type in (*CONVOLUTIONS, "pool2d") and attributes.get("data_format", "NCHW") not in (
        "NCHW",
        "AnyLayout",
    ):
        message = f"{op.op_type}: data_format is {attributes['data_format']}; NNAdapter takes NCHW"
        yield Finding("attributes", op.name, message, "export the network in NCHW")
    if op.op_type == "relu6" and abs(float(attributes.get("threshold", 6.0)) - 6.0) > 1e-6:
        message = f"relu6: threshold is {attributes['threshold']}; the NPU's stops at 6"
        yield Finding("attributes", op.name, message, "use clip, or a threshold of 6")
    if (
        op.op_type == "pool2d"
        and attributes.get("adaptive")
        and tuple(attributes.get("ksize", (1, 1))) != (1, 1)
    ):
        message = (
            f"pool2d: adaptive to {list(attributes['ksize'])}; only the global one is the same everywhere"
        )
        yield Finding(
            "attributes", op.name, message, "write kernel and stride instead of the result's size", False
        )


def _shapes(graph: PartitionedGraph, op: PlacedOperator) -> Iterator[Finding]:
    for slot, name in op.outputs:
        shape = graph.tensor(name).shape
        if not slot.startswith(BOOKKEEPING) and any(size < 0 for size in shape or ()):
            message = f"{op.op_type}: {name} has the shape {list(shape)}; an NPU compiles fixed sizes"
            yield Finding("shapes", op.name, message, "export with Global.input_size")
            return
