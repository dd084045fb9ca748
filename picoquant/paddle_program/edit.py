"""Edit a saved program (`ProgramDesc`) as it is, without loading its weights or losing attributes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from picoquant.errors import WeightsError
from picoquant.paddle_program.program import KEPT_FLOAT, read_program
from picoquant.paddle_program.validate import require_sound

# What Paddle notes of building, training and its own CPU and GPU kernels: nothing that Paddle Lite or Paddle's
# CPU runtime needs, but up to a third of a `.nb`. op_callstack holds folder names.
_DROPPED = {
    "op_callstack", "op_device", "op_namescope", "op_role", "op_role_var", "use_mkldnn", "mkldnn_data_type",
    "use_quantizer", "Scale_in", "Scale_out", "Scale_x", "Scale_y", "Scale_in_eltwise", "Scale_weights",
    "use_cudnn", "exhaustive_search", "force_fp32_output", "fuse_relu_before_depthwise_conv",
    "fuse_residual_connection", "fuse_activation", "fuse_alpha", "fuse_beta", "fuse_relu", "use_addto",
    "workspace_size_MB", "with_quant_attr",
}  # fmt: skip


def batch_of_one(path: Path, input_size: Sequence[int]) -> Any:
    """A saved program for one image at a time, see `for_one_image`.

    Args:
        path: a `.pdmodel`.
        input_size: height and width, pixels, for an input that leaves them open.

    Returns: a `ProgramDesc` message.

    Raises: `WeightsError` when the file is no program or cannot take one image of that size.
    """
    program = read_program(path)
    require_sound(program, path)  # paddle itself would crash on it
    return for_one_image(program, input_size, str(path))


def for_one_image(program: Any, input_size: Sequence[int], where: str) -> Any:
    """A copy of a sound program for one image at a time, with every shape known.

    Attributes at their default, which Paddle leaves out and Paddle Lite needs, are written; those of building,
    training and Paddle's own kernels are left out.

    Args:
        program: a `ProgramDesc` message, see `validate.require_sound`.
        input_size: height and width, pixels, for an input that leaves them open.
        where: what to call the program in messages.

    Raises: `WeightsError` when it cannot take one image of that size.
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
    for op in (op for block in message.blocks for op in block.ops):
        kept = [a for a in op.attrs if a.name not in _DROPPED or KEPT_FLOAT in a.s]
        del op.attrs[:]
        op.attrs.extend(kept)
    return message


def _one_image(shape: list[int], input_size: Sequence[int]) -> list[int]:
    shape = [1, *shape[1:]]
    if len(shape) == 4:
        shape[2:] = [size if given == -1 else given for given, size in zip(shape[2:], input_size)]
    return shape


def without_hard_swish(program: Any) -> None:
    """Write each hard-swish as hard-sigmoid times its input, which ONNX has had long before opset 14.

    `x * clip(x + offset, 0, threshold) / scale` is `x * clip(x / scale + offset / scale, 0, 1)` where threshold
    and scale are equal, as in every published network; others stay.

    Args:
        program: a `ProgramDesc`; changed in place.
    """
    from paddle.base.proto import framework_pb2

    block = program.blocks[0]
    shapes = {variable.name: variable for variable in block.vars}
    place = 0
    while place < len(block.ops):
        op = block.ops[place]
        values = {attribute.name: attribute.f for attribute in op.attrs}
        scale = values.get("scale", 6.0)
        if op.type != "hard_swish" or values.get("threshold", 6.0) != scale:
            place += 1
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
        later = [type(op).FromString(other.SerializeToString()) for other in block.ops[place + 1 :]]
        del block.ops[place + 1 :]
        block.ops.extend([product, *later])
        place += 2


def smaller_for_opt(program: Any) -> Any:
    """A copy without attributes that Paddle Lite does not read; opt makes the same network of it.

    Of convolutions `is_test` and `quantization_type`, and `data_format` and `padding_algorithm` at the values that
    its operator and its NNAdapter converter have without them (`lite/operators/conv_op.h`,
    `lite/kernels/nnadapter/converter/conv2d.cc`); and a result's range where `out_threshold` says the same.
    """
    copy = type(program).FromString(program.SerializeToString())
    for op in (op for block in copy.blocks for op in block.ops):
        gone = set()
        for attribute in op.attrs:
            if op.type in ("conv2d", "depthwise_conv2d"):
                default = {"data_format": "NCHW", "padding_algorithm": "EXPLICIT"}.get(attribute.name)
                if attribute.name in ("is_test", "quantization_type") or attribute.s == default:
                    gone.add(attribute.name)
        known = next((attribute.f for attribute in op.attrs if attribute.name == "out_threshold"), None)
        for attribute in op.attrs:
            if attribute.name in ("Out0_threshold", "Output0_threshold") and attribute.f == known:
                gone.add(attribute.name)
        kept = [attribute for attribute in op.attrs if attribute.name not in gone]
        del op.attrs[:]
        op.attrs.extend(kept)
    return copy


def write_program(program: Any, path: Path) -> None:
    """Write a `ProgramDesc`, the same bytes for the same content."""
    Path(path).write_bytes(program.SerializeToString(deterministic=True))
