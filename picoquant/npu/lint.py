"""Rules of a target, checked operator by operator; each finding names the operator and the mend.

What stops a model on these boards stops it with messages that name nothing; so it is looked for here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from picoquant.npu.cost import CONVOLUTIONS
from picoquant.npu.partitioned import CPU, NPU, PartitionedGraph, PlacedOperator, plain_name
from picoquant.paddle_program.graph import BOOKKEEPING
from picoquant.targets.profiles import Target

_FLOATS = ("float32", "float16", "int8", "")
_POST = "export without post-processing (export.post_process: false); the host does it, see docs/npu.md"
_POST_KINDS = ("sqrt", "multiclass_nms3", "matrix_nms", "top_k_v2", "where_index", "gather_nd", "range")
_ALWAYS_ZERO = 1e-10  # no range of a tensor that carries anything is as small


@dataclass(frozen=True)
class Finding:
    """Something about one operator, or the whole network.

    Attributes:
        rule: its short name.
        operator: name of the operator or tensor; empty for the network.
        message: what is so.
        mend: what to do.
        broken: whether it breaks a rule of the target; otherwise it is advice.
    """

    rule: str
    operator: str
    message: str
    mend: str
    broken: bool = True


def lint(split: PartitionedGraph, target: Target) -> list[Finding]:
    """All findings about a split network.

    Args:
        split: as opt left it, without a partition file.
        target: whose rules hold.
    """
    findings = [*_inputs(split, target), *_scales(split, target)]
    if target.on_npu:
        findings += [*_pieces(split, target), *_borders(split)]
        for op in split.at(NPU):
            findings += [*_weights(split, op, target), *_attributes(op), *_shapes(split, op)]
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


def _inputs(split: PartitionedGraph, target: Target) -> Iterator[Finding]:
    if "scale_factor" in split.inputs:
        message = "the network takes scale_factor, so a part of the post-processing is inside"
        yield Finding("no_scale_factor", "scale_factor", message, _POST, target.on_npu)


def _pieces(split: PartitionedGraph, target: Target) -> Iterator[Finding]:
    count = len(split.subgraphs)
    left = sorted({op.op_type for op in split.at(CPU)})
    if count == 0:
        message = f"nothing of it runs on the NPU; on the CPU: {', '.join(left) or 'everything'}"
        yield Finding("one_piece", "", message, "quantise it, and check with opt of the profile's version")
    if count > 1:
        first = split.at(CPU)[0] if split.at(CPU) else None
        if set(left) & set(_POST_KINDS):
            mend = _POST
        elif all(weight_type(split, op) == "float32" for op in split.at(CPU)):
            mend = "quantise these layers, too: leave Quantize.keep_float and Quantize.max_drop out"
        else:
            mend = "replace what has no NPU converter"
        message = f"{count} NPU pieces instead of one, between operators on the CPU: {', '.join(left)}"
        yield Finding("one_piece", first.name if first else "", message, mend)
    ends, found = len(split.inputs) + len(split.outputs), len(split.at("conversion"))
    if count and found > ends:
        message = f"{found} conversions for {ends} network inputs and outputs"
        yield Finding("conversions", "", message, "see one_piece: each further piece brings its own")


def _scales(split: PartitionedGraph, target: Target) -> Iterator[Finding]:
    for op in split.operators:
        for slot in slots_without_scale(split, op, target):
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


def slots_without_scale(split: PartitionedGraph, op: PlacedOperator, target: Target) -> list[str]:
    """Inputs and results of an operator that lack a scale they need: on an NPU both, on a CPU the inputs.

    Stored biases need none: the driver takes them from the scales of input and weight.
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
        tensor = split.tensor(name)
        computed = not tensor.stored or slot == "Filter0"
        if slot.startswith(BOOKKEEPING) or not computed or tensor.dtype not in _FLOATS:
            continue
        if op.scale(slot) is None:
            missing.append(slot)
    return missing


def _tensor_at(op: PlacedOperator, slot: str) -> str:
    return next(name for known, name in (*op.inputs, *op.outputs) if known == slot)


def _borders(split: PartitionedGraph) -> Iterator[Finding]:
    """Tensors that come into or leave a piece: of rank 2 and more, if they are float."""
    for number, piece in enumerate(split.subgraphs):
        made = {name for op in piece for _, name in op.outputs}
        outside = {name for op in split.operators if op.subgraph != number for _, name in op.inputs}
        for op in piece:
            crossing = [name for slot, name in op.inputs if name not in made]
            crossing += [
                name for slot, name in op.outputs if name in outside and not slot.startswith(BOOKKEEPING)
            ]
            for name in crossing:
                tensor = split.tensor(name)
                shape = tensor.shape
                if tensor.stored or shape is None or len(shape) > 1 or tensor.dtype not in _FLOATS:
                    continue
                message = f"{op.op_type}: {plain_name(name)} at the NPU's border has rank {len(shape)}"
                yield Finding("border_rank", op.name, message, "give it a leading dimension of 1 (unsqueeze)")


def granularity(split: PartitionedGraph, op: PlacedOperator) -> str | None:
    """`per_channel`, `per_tensor` or, being both, `of one channel`: a convolution's weight; None for others."""
    scales = op.scale("Filter0") if op.op_type in CONVOLUTIONS else None
    if scales is None:
        return None
    names = [name for slot, name in op.inputs if slot == "Filter0"]
    channels = (split.tensor(names[0]).shape or (0,))[0]
    if channels == 1:
        return "of one channel"
    return "per_channel" if len(set(scales)) > 1 else "per_tensor"


def weight_type(split: PartitionedGraph, op: PlacedOperator) -> str | None:
    """The type of a convolution's stored weight, for example `int8`."""
    names = [name for slot, name in op.inputs if slot == "Filter0"]
    return split.tensor(names[0]).dtype if names and op.op_type in CONVOLUTIONS else None


def _weights(split: PartitionedGraph, op: PlacedOperator, target: Target) -> Iterator[Finding]:
    rules, dtype = target.quantization, weight_type(split, op)
    if dtype not in (None, "int8"):
        mend = f"add {op.op_type} to QuantAware.quantize_op_types and quantise again"
        yield Finding("weights_int8", op.name, f"{op.op_type}: its weight is {dtype}, not int8", mend)
    if rules.weights == "per_tensor" and granularity(split, op) == "per_channel":
        message = f"{op.op_type}: a scale for each channel, but {target.name} takes one for the whole weight"
        yield Finding("granularity", op.name, message, "QuantAware.weight_quantize_type=abs_max")
    bits = op.attributes.get("bit_length")
    if dtype == "int8" and isinstance(bits, int) and bits > rules.weight_bits:
        message = f"{op.op_type}: {bits}-bit numbers, but {target.name} takes {rules.weight_bits}"
        yield Finding("bits", op.name, message, f"QuantAware.weight_bits={rules.weight_bits}")
    if op.op_type == "batch_norm":
        message = "batch_norm is left for the driver to fold, which rounds the INT8 weights a second time"
        mend = "fold it before quantisation (picoquant quantize does)"
        yield Finding("batch_norm", op.name, message, mend, False)


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


def _shapes(split: PartitionedGraph, op: PlacedOperator) -> Iterator[Finding]:
    for slot, name in op.outputs:
        shape = split.tensor(name).shape
        if not slot.startswith(BOOKKEEPING) and any(size < 0 for size in shape or ()):
            message = f"{op.op_type}: {name} has the shape {list(shape)}; an NPU compiles fixed sizes"
            yield Finding("shapes", op.name, message, "export with Global.input_size")
            return
