"""Which INT8 networks the files of a toolchain can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from picoquant.int8.network import Int8Network

_COST = "; docs/accuracy.md has what that costs"


@dataclass(frozen=True)
class Scheme:
    """What a toolchain takes.

    Attributes:
        per_channel: whether a weight may have a scale for each channel.
        weight_bits, activation_bits: bits of an integer, any of these.
        zero_points: whether the integer for 0.0 may be another than 0 (asymmetric ranges).
        every_tensor: whether every tensor that an NPU holds must have a range, as nothing runs in float.
    """

    per_channel: bool = True
    weight_bits: tuple[int, ...] = (8,)
    activation_bits: tuple[int, ...] = (8,)
    zero_points: bool = False
    every_tensor: bool = False

    def lacks(self, network: Int8Network) -> str:
        """What of a network it cannot hold: the first tensor, and what to do; empty where it holds all."""
        for operator in network.operators:
            if operator.params.bits not in self.weight_bits:
                return _bits("weight", operator.weight, operator.params.bits, self.weight_bits)
            if len(operator.scales) > 1 and not self.per_channel:
                return (
                    f"weight {operator.weight} has a scale for each channel, one for the whole tensor is possible: "
                    f"quantise with QuantAware.weight_quantize_type=abs_max{_COST}"
                )
        for name, tensor in network.tensors.items():
            if tensor.params is None:
                if self.every_tensor and tensor.fused_into is None:
                    return f"tensor {name} has no range, without which it cannot be in INT8: quantise the model again"
                continue
            if tensor.params.bits not in self.activation_bits:
                return _bits("tensor", name, tensor.params.bits, self.activation_bits)
            if not tensor.params.is_symmetric and not self.zero_points:
                return not_symmetric(name)
        return ""


def not_symmetric(name: str) -> str:
    """What to say of a tensor with a zero point, where files have none."""
    return (
        f"tensor {name} is not symmetric about 0, which files of ONNX, OpenVINO, TFLite and rknn can hold: package "
        f"for a target with these, or quantise with QuantAware.symmetric_activations=true{_COST}"
    )


def _bits(what: str, name: str, bits: int, possible: tuple[int, ...]) -> str:
    numbers = " or ".join(map(str, possible))
    return f"{what} {name} has {bits} bits, {numbers} are possible: quantise with as many"
