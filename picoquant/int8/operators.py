"""Operators of a float program that become INT8, and the names of what quantises them."""

from __future__ import annotations

from dataclasses import dataclass

from picoquant.errors import WeightsError
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.operator import EditableOperator
from picoquant.paddle_program.editing.program_model import ProgramModel

# Slots of activation and weight, of each type; others take what they read at `X` and `Y`.
_SLOTS = dict.fromkeys(("conv2d", "depthwise_conv2d", "conv2d_transpose"), ("Input", "Filter"))
_AXIS_1 = ("conv2d_transpose", "mul", "matmul", "matmul_v2")


@dataclass(frozen=True)
class QuantizableOperator:
    """An operator that runs in INT8.

    Attributes:
        op_type: for example `conv2d`.
        output: name of its result, which names the operator.
        activation: name of its input that is computed.
        weight: name of its stored input.
        axis: the weight's axis that has one range each; -1: one range for all of it.
    """

    op_type: str
    output: str
    activation: str
    weight: str
    axis: int


def scale_name(variable: str) -> str:
    """Name of the range (largest absolute value) of a variable."""
    return f"{variable}@scale"


def quantised_name(variable: str) -> str:
    """Name of an activation behind its quantiser."""
    return f"{variable}.quantized.dequantized"


def quantizable_operators(
    model: ProgramModel, settings: QuantAwareSettings
) -> tuple[QuantizableOperator, ...]:
    """The operators of a float model that become INT8, in its order.

    Raises: `WeightsError` when there is none, the program is quantised already, or a convolution's weight is
        computed.
    """
    found = []
    for op in model.operators:
        if op.type.startswith(("fake_quantize", "quantize_linear")):
            raise WeightsError(
                f"the model is quantised already ({op.type} at {op.inputs[0]}); name the FP32 export"
            )
        if op.type not in settings.quantize_op_types or _skipped(op, settings):
            continue
        names = [name for slot in _SLOTS.get(op.type, ("X", "Y")) for name in op.input(slot)]
        stored = [name for name in names if model.is_stored(name)]
        computed = [name for name in names if name not in stored]
        if len(stored) == 1 and len(computed) == 1:
            axis = _channel_axis(op) if settings.weight_quantize_type == "channel_wise_abs_max" else -1
            found.append(QuantizableOperator(op.type, op.results[0], computed[0], stored[0], axis))
        elif "conv" in op.type and not stored:
            raise WeightsError(
                f"{op.type} {op.results[0]} cannot be quantised: its weight {names[-1]} is computed, not "
                f"stored; export the model with stored weights, or leave {op.type} out of "
                "QuantAware.quantize_op_types"
            )
    if not found:
        kinds = ", ".join(settings.quantize_op_types)
        raise WeightsError(
            f"the model has no operator with weights of the types {kinds}: set QuantAware.quantize_op_types"
        )
    return tuple(found)


def _skipped(op: EditableOperator, settings: QuantAwareSettings) -> bool:
    scope = op.attributes.get("op_namescope", "")
    return any(pattern in scope for pattern in settings.not_quant_pattern)


def _channel_axis(op: EditableOperator) -> int:
    transposed = op.type == "matmul_v2" and op.attributes.get("trans_y", False)
    return 1 if op.type in _AXIS_1 and not transposed else 0
