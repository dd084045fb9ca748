"""Edits a saved program (`ProgramDesc`) without loading its weights and without losing attributes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from picoquant.errors import WeightsError
from picoquant.paddle_program.message import write_numbers_plainly
from picoquant.paddle_program.program import KEPT_FLOAT, read_program
from picoquant.paddle_program.validate import require_sound

# Attributes for building, training and Paddle's own CPU and GPU kernels. Neither Paddle Lite nor Paddle's CPU
# runtime reads them, but they are up to a third of a `.nb`; op_callstack also holds folder names.
_DROPPED = {
    "op_callstack", "op_device", "op_namescope", "op_role", "op_role_var", "use_mkldnn", "mkldnn_data_type",
    "use_onednn", "onednn_data_type",
    "use_quantizer", "Scale_in", "Scale_out", "Scale_x", "Scale_y", "Scale_in_eltwise", "Scale_weights",
    "use_cudnn", "exhaustive_search", "force_fp32_output", "fuse_relu_before_depthwise_conv",
    "fuse_residual_connection", "fuse_activation", "fuse_alpha", "fuse_beta", "fuse_relu", "use_addto",
    "workspace_size_MB", "with_quant_attr",
}  # fmt: skip


def batch_of_one(path: Path, input_size: Sequence[int]) -> Any:
    """Read a saved program and set its batch size to one, see `for_one_image`.

    Args:
        path: a `.pdmodel` file.
        input_size: height and width in pixels, for an input with a variable size.

    Returns: a `ProgramDesc` message.

    Raises: `WeightsError` if the file is no program or does not accept one image of that size.
    """
    program = read_program(path)
    require_sound(program, path)  # Paddle itself would crash on a damaged program
    return for_one_image(program, input_size, str(path))


def for_one_image(program: Any, input_size: Sequence[int], where: str) -> Any:
    """A copy of a program with batch size one, in which every shape is known.

    Paddle leaves out attributes at their default value, but Paddle Lite requires them: they are written.
    Attributes for building, training and Paddle's own kernels are removed.

    Args:
        program: a `ProgramDesc` message that `validate.require_sound` accepts.
        input_size: height and width in pixels, for an input with a variable size.
        where: name of the program in error messages.

    Raises: `WeightsError` if the program does not accept one image of that size.
    """
    from paddle.base import core

    try:
        native = core.ProgramDesc(program.SerializeToString())
    except ValueError as error:
        raise WeightsError(f"{where} is an incomplete Paddle program: export the model again") from error
    block = native.block(0)
    for index in range(block.op_size()):
        op = block.op(index)
        if op.type() == "fetch":
            continue
        try:
            if op.type() == "feed":
                variable = block.find_var(op.output("Out")[0].encode())
                variable.set_shape(_one_image(list(variable.shape()), input_size))
            else:
                op.check_attrs()
                op.infer_shape(block)
        except (RuntimeError, ValueError, IndexError, AttributeError) as error:
            reason = " ".join(str(error).split())[-300:]
            raise WeightsError(
                f"{where}: {op.type()} (result {', '.join(op.output_arg_names()[:1])}) cannot take one image of "
                f"{input_size[0]}x{input_size[1]}: {reason}"
            ) from error
    message = type(program).FromString(native.serialize_to_string())
    write_numbers_plainly(message)
    for op in (op for block in message.blocks for op in block.ops):
        kept = [a for a in op.attrs if a.name not in _DROPPED or KEPT_FLOAT in a.s]
        del op.attrs[:]
        op.attrs.extend(kept)
    return message


def _one_image(shape: list[int], input_size: Sequence[int]) -> list[int]:
    shape = [1, *shape[1:]]
    if len(shape) == 4:
        shape[2:] = [size if length == -1 else length for length, size in zip(shape[2:], input_size)]
    return shape


def without_hard_swish(program: Any) -> None:
    """Replace each hard-swish by hard-sigmoid times its input: ONNX has HardSwish only from opset 14 on.

    `x * clip(x + offset, 0, threshold) / scale` equals `x * clip(x / scale + offset / scale, 0, 1)` if
    threshold and scale are equal, as in every published network; other hard-swishes are left unchanged.

    Args:
        program: a `ProgramDesc` message; changed in place.
    """
    from paddle.base.proto import framework_pb2

    block = program.blocks[0]
    shapes = {variable.name: variable for variable in block.vars}
    index = 0
    while index < len(block.ops):
        op = block.ops[index]
        values = {attribute.name: attribute.f for attribute in op.attrs}
        scale = values.get("scale", 6.0)
        if op.type != "hard_swish" or values.get("threshold", 6.0) != scale:
            index += 1
            continue
        source, result = (slots[0].arguments[0] for slots in (op.inputs, op.outputs))
        gate = block.vars.add()
        gate.CopyFrom(shapes[result])
        gate.name = f"{result}.gate"
        product = type(op)(type="elementwise_mul")
        for slots, slot, name in (
            (product.inputs, "X", source), (product.inputs, "Y", gate.name), (product.outputs, "Out", result)
        ):  # fmt: skip
            slots.add(parameter=slot, arguments=[name])
        product.attrs.add(name="axis", type=framework_pb2.INT, i=-1)
        op.type = "hard_sigmoid"
        op.outputs[0].arguments[0] = gate.name
        del op.attrs[:]
        op.attrs.add(name="slope", type=framework_pb2.FLOAT, f=1 / scale)
        op.attrs.add(name="offset", type=framework_pb2.FLOAT, f=values.get("offset", 3.0) / scale)
        later = [type(op).FromString(other.SerializeToString()) for other in block.ops[index + 1 :]]
        del block.ops[index + 1 :]
        block.ops.extend([product, *later])
        index += 2


def smaller_for_opt(program: Any) -> Any:
    """A copy without attributes that Paddle Lite does not read; opt writes the same network for it.

    Removed are, from convolutions, `is_test` and `quantization_type`, and `data_format` and
    `padding_algorithm` at the values that are the default of Paddle Lite's operator and of its NNAdapter
    converter (`lite/operators/conv_op.h`, `lite/kernels/nnadapter/converter/conv2d.cc`); and the range of a
    result if it is equal to `out_threshold`.

    Args:
        program: a `ProgramDesc` message; left unchanged.
    """
    copy = type(program).FromString(program.SerializeToString())
    for op in (op for block in copy.blocks for op in block.ops):
        removed = set()
        for attribute in op.attrs:
            if op.type in ("conv2d", "depthwise_conv2d"):
                default = {"data_format": "NCHW", "padding_algorithm": "EXPLICIT"}.get(attribute.name)
                if attribute.name in ("is_test", "quantization_type") or attribute.s == default:
                    removed.add(attribute.name)
        threshold = next((attribute.f for attribute in op.attrs if attribute.name == "out_threshold"), None)
        for attribute in op.attrs:
            if attribute.name in ("Out0_threshold", "Output0_threshold") and attribute.f == threshold:
                removed.add(attribute.name)
        kept = [attribute for attribute in op.attrs if attribute.name not in removed]
        del op.attrs[:]
        op.attrs.extend(kept)
    return copy


def write_program(program: Any, path: Path) -> None:
    """Write a `ProgramDesc` message; the same content always results in the same bytes."""
    Path(path).write_bytes(program.SerializeToString(deterministic=True))
