"""The cost of a partitioned network: multiply-accumulates, memory of activations, estimated latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.backends.placement import NPU, PartitionedGraph, PlacedOperator
from picoquant.paddle_program.graph import BOOKKEEPING

CONVOLUTIONS = ("conv2d", "depthwise_conv2d", "conv2d_transpose")
_MATRIX = ("fc", "mul", "matmul", "matmul_v2")
# Operators that the NPU's driver, or opt on a CPU, fuses into the operator before them.
_FUSED = ("batch_norm", "relu", "relu6", "hard_swish", "leaky_relu", "reshape2", "elementwise_add")


@dataclass(frozen=True)
class Published:
    """A model in the targets' tables of published latencies.

    Attributes:
        weights: granularity of its weight scales, `per_channel` or `per_tensor`.
        elements: output elements of its convolutions and matrix products for one image of the size in its
            name, in millions; counted on the networks of `paddle.vision.models` (YOLOv5s: on the architecture
            of its release 6, without decoding).
    """

    weights: str
    elements: float


PUBLISHED = {
    "picodet_relu6_int8_416": Published("per_channel", 12.329),
    "yolov5s_int8_640": Published("per_channel", 25.796),
    "mobilenet_v1_int8_224": Published("per_tensor", 5.044),
    "mobilenet_v2_int8_224": Published("per_tensor", 6.679),
    "resnet50_int8_224": Published("per_tensor", 11.115),
}


@dataclass(frozen=True)
class Latency:
    """An estimated, not a measured, latency.

    Attributes:
        milliseconds: of the network's NPU part, for one image; None if no published latency fits.
        error: the largest relative error when each published model is estimated from the others
            (leave-one-out); None if there is only one.
        method: how the estimate was computed, in words.
    """

    milliseconds: float | None
    error: float | None
    method: str


def macs(graph: PartitionedGraph, operators: Sequence[PlacedOperator]) -> int:
    """Multiply-accumulates of the convolutions and matrix products among `operators`, for one image."""
    total = 0
    for op in operators:
        weight = _weight(graph, op)
        if weight is not None:
            # An output element costs in * h * w with a filter (out, in, h, w), in with a matrix (in, out).
            per_element = weight[1:] if op.op_type in CONVOLUTIONS else weight[:1]
            total += graph.tensor(op.name).size * int(np.prod(per_element))
    return total


def elements(graph: PartitionedGraph, operators: Sequence[PlacedOperator]) -> int:
    """Output elements of the convolutions and matrix products among `operators`, for one image."""
    return sum(graph.tensor(op.name).size for op in operators if _weight(graph, op) is not None)


def _weight(graph: PartitionedGraph, op: PlacedOperator) -> tuple[int, ...] | None:
    if op.op_type not in (*CONVOLUTIONS, *_MATRIX):
        return None
    stored = [graph.tensor(name) for slot, name in op.inputs if slot in ("Filter0", "W0", "Y0")]
    return stored[0].shape or None if stored and stored[0].stored else None


def activation_bytes(graph: PartitionedGraph) -> int:
    """Peak memory of the computed tensors, in bytes, if each is freed after its last reader has run.

    An element takes 1 byte on the NPU and 4 on the CPU. The result of an operator that is fused into the one
    before it shares its input's memory. Buffers that the driver or the kernels allocate besides are unknown
    and not counted.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    owner: dict[str, str] = {}
    bytes_of: dict[str, int] = {}
    for index, op in enumerate(graph.operators):
        for _, name in op.inputs:
            last[owner.get(name, name)] = index
        for slot, name in op.outputs:
            tensor = graph.tensor(name)
            if slot.startswith(BOOKKEEPING) or tensor.stored:
                continue
            source = next((n for _, n in op.inputs if not graph.tensor(n).stored), None)
            in_place = op.op_type in _FUSED or op.op_type.startswith("fake_")
            if in_place and source is not None:
                owner[name] = owner.get(source, source)
                continue
            first[name] = index
            bytes_of[name] = tensor.size * (1 if op.place == NPU or tensor.dtype == "int8" else 4)
    changes = np.zeros(len(graph.operators) + 1, np.int64)
    for name, start in first.items():
        changes[start] += bytes_of[name]
        changes[last.get(name, len(graph.operators) - 1) + 1] -= bytes_of[name]
    return int(np.cumsum(changes).max(initial=0))


def estimate(latencies: Mapping[str, Mapping[str, Any]], weights: str, million_elements: float) -> Latency:
    """Estimate the latency on the NPU, in milliseconds, from a target's published latencies.

    On these NPUs the time depends far more on the number of output elements than on the multiply-accumulates.
    So the estimate is a time per element: the geometric mean over the published models whose weights have the
    same granularity.

    Args:
        latencies: `Target.latency_ms`.
        weights: granularity of the weight scales, `per_channel` or `per_tensor`.
        million_elements: output elements of convolutions and matrix products on the NPU, in millions.
    """
    rates = _rates(latencies, weights)
    called = weights.replace("_", "-")
    if not rates:
        return Latency(None, None, _why_none(latencies, weights, million_elements))
    rate = math.exp(float(np.mean(np.log(rates))))
    error = None
    if len(rates) > 1:
        others = [math.exp(float(np.mean(np.log(rates[:i] + rates[i + 1 :])))) for i in range(len(rates))]
        error = max(abs(other / own - 1) for other, own in zip(others, rates))
    method = (
        f"estimated, not measured: {rate:.2f} ms a million results of convolutions, the mean of {len(rates)} "
        f"published model{'s' if len(rates) > 1 else ''} with {called} weights on this target; NPU part only"
    )
    return Latency(rate * million_elements, error, method)


def _rates(latencies: Mapping[str, Mapping[str, Any]], weights: str) -> list[float]:
    """Milliseconds per million output elements of each published model with weights of this granularity."""
    return [
        row["npu"] / PUBLISHED[name].elements
        for name, row in latencies.items()
        if name in PUBLISHED and PUBLISHED[name].weights == weights and row.get("npu")
    ]


def _why_none(latencies: Mapping[str, Mapping[str, Any]], weights: str, million_elements: float) -> str:
    called = weights.replace("_", "-")
    reason = f"no estimate: no NPU time of a model with {called} weights is published for this target"
    if weights == "per_channel" and _rates(latencies, "per_tensor"):
        other = estimate(latencies, "per_tensor", million_elements)
        reason += (
            f"; with per-tensor weights (QuantAware.weight_quantize_type=abs_max) {other.milliseconds:.3g} ms"
        )
        reason += (
            f" is estimated, off by up to {other.error:.0%} on the published table" if other.error else ""
        )
    return reason
