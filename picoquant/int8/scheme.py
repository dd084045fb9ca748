"""The scheme of quantisation: which operators, how many bits, ranges per channel or per tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from picoquant.errors import NOT_SUPPORTED, ConfigError
from picoquant.utils.setting_checks import listed, one_of, thawed

WEIGHT_TYPES = ("channel_wise_abs_max", "abs_max")


OPERATOR_TYPES = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2")


@dataclass(frozen=True)
class QuantAwareSettings:
    """Section `QuantAware`: what becomes INT8, and how ranges are found.

    Attributes:
        quantize_op_types: operators with weights that become INT8.
        weight_bits, activation_bits: 2 to 8.
        not_quant_pattern: operators whose name scope holds one of these stay in floating point.
        use_pact: learn the clipping range of each activation (PACT, https://arxiv.org/abs/1805.06085).
        activation_quantize_type: `moving_average_abs_max`, the range an NPU can use: fixed after training.
        weight_quantize_type: a range for each output channel, or one for the whole weight.
        dtype: `int8`.
        window_size: of `range_abs_max`; accepted, not used.
        moving_rate: decay of the activations' moving average.
        symmetric_activations: whether 0.0 is in the middle of an activation's range; false: each has a zero point, so
            that all 256 integers are between its lowest and its highest value. picoquant's own key.
        for_tensorrt, is_full_quantize: accepted as false only.
        onnx_format: also write the model with `quantize_linear` and `dequantize_linear`. The model for
            Paddle Lite, from which picoquant makes its INT8 ONNX, is always written.
    """

    quantize_op_types: tuple[str, ...] = ("conv2d", "depthwise_conv2d")
    weight_bits: int = 8
    activation_bits: int = 8
    not_quant_pattern: tuple[str, ...] = ("skip_quant",)
    use_pact: bool = False
    activation_quantize_type: str = "moving_average_abs_max"
    weight_quantize_type: str = "channel_wise_abs_max"
    dtype: str = "int8"
    window_size: int = 10000
    moving_rate: float = 0.9
    symmetric_activations: bool = True
    for_tensorrt: bool = False
    onnx_format: bool = False
    is_full_quantize: bool = False

    def __post_init__(self) -> None:
        for name in ("quantize_op_types", "not_quant_pattern"):
            object.__setattr__(self, name, tuple(listed(getattr(self, name))))
        if not self.quantize_op_types:
            raise ConfigError("QuantAware.quantize_op_types is empty: nothing would become INT8")
        for kind in self.quantize_op_types:
            one_of("QuantAware.quantize_op_types", kind, OPERATOR_TYPES)
        for name in ("weight_bits", "activation_bits"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= 8:
                raise ConfigError(f"QuantAware.{name}: expected 2 to 8 bits, found {value!r}")
        one_of(
            "QuantAware.activation_quantize_type",
            self.activation_quantize_type,
            ("moving_average_abs_max",),
        )
        one_of("QuantAware.weight_quantize_type", self.weight_quantize_type, WEIGHT_TYPES)
        one_of("QuantAware.dtype", self.dtype, ("int8",))
        for name in ("use_pact", "onnx_format", "symmetric_activations", "for_tensorrt", "is_full_quantize"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"QuantAware.{name}: expected true or false, found {getattr(self, name)!r}")
        for name in ("for_tensorrt", "is_full_quantize"):
            if getattr(self, name):
                raise ConfigError(
                    f"QuantAware.{name}: true is not supported; name quantize_op_types; {NOT_SUPPORTED}"
                )
        if not isinstance(self.moving_rate, float) or not 0 < self.moving_rate < 1:
            raise ConfigError(f"QuantAware.moving_rate: expected between 0 and 1, found {self.moving_rate!r}")

    def to_paddleslim(self) -> dict[str, Any]:
        """The section as AutoCompression takes it."""
        own = ("symmetric_activations",)
        return {name: thawed(getattr(self, name)) for name in self.__dataclass_fields__ if name not in own}
