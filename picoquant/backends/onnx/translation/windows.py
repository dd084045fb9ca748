"""Operators that slide a window over an image, in ONNX: convolutions, poolings, resizing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from picoquant.backends.onnx.translation.writer import Writer, inputs_of
from picoquant.errors import ToolError
from picoquant.paddle_program.graph import Operator
from picoquant.paddle_program.paddings import explicit_paddings


def _pads(writer: Writer, op: Operator, size: Sequence[int], source: str) -> list[int]:
    top, bottom, left, right = explicit_paddings(op.attributes, size, writer.shape(source)[2:])
    return [top, left, bottom, right]


def _convolution(writer: Writer, op: Operator) -> None:
    (image,), (weight,), a = inputs_of(op, "Input"), inputs_of(op, "Filter"), op.attributes
    attributes = {
        "strides": list(a["strides"]),
        "dilations": list(a["dilations"]),
        "group": a["groups"],
        "kernel_shape": list(writer.shape(weight)[2:]),
    }
    if op.op_type == "conv2d_transpose":
        if a.get("output_size"):
            raise ToolError(
                f"conv2d_transpose ({op.name}) to a given size is not converted without paddle2onnx"
            )
        attributes["output_padding"] = list(a.get("output_padding") or (0, 0))
    pads = _pads(writer, op, writer.shape(weight)[2:], image)
    kind = "ConvTranspose" if op.op_type == "conv2d_transpose" else "Conv"
    writer.add(kind, [image, weight], op.results[0], pads=pads, **attributes)


def _pool(writer: Writer, op: Operator) -> None:
    (image,), a = inputs_of(op, "X"), op.attributes
    average, size = a["pooling_type"] == "avg", list(a["ksize"])
    if a.get("global_pooling") or (a.get("adaptive") and size == [1, 1]):
        writer.add("GlobalAveragePool" if average else "GlobalMaxPool", [image], op.results[0])
        return
    if a.get("adaptive"):
        raise ToolError(f"pool2d ({op.name}) to {size} cells is not converted without paddle2onnx")
    attributes = {
        "kernel_shape": size,
        "strides": list(a["strides"]),
        "pads": _pads(writer, op, size, image),
        "ceil_mode": int(a.get("ceil_mode", False)),
    }
    if average:
        attributes["count_include_pad"] = int(not a.get("exclusive", True))
    writer.add("AveragePool" if average else "MaxPool", [image], op.results[0], **attributes)


def _resize(mode: str) -> Callable[[Writer, Operator], None]:
    def apply(writer: Writer, op: Operator) -> None:
        (image,), a = inputs_of(op, "X"), op.attributes
        how = {"mode": mode}
        if a["align_corners"]:
            how["coordinate_transformation_mode"] = "align_corners"
            if mode == "nearest":
                how["nearest_mode"] = "round_prefer_ceil"  # a half goes up, as in Paddle
        elif mode == "nearest":
            how.update(coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        else:
            half = a.get("align_mode", 1) == 0
            how["coordinate_transformation_mode"] = "half_pixel" if half else "asymmetric"
        region = "" if writer.opset >= 13 else writer.constant([])
        given = writer.numbers(op, "OutSize", "SizeTensor")
        scale = [float(number) for number in np.atleast_1d(a.get("scale", ()))]
        if given is None and scale:
            factors = scale * 2 if len(scale) == 1 else scale
            ends = [region, writer.constant([1.0, 1.0, *factors])]
        else:
            if given is None:
                given = writer.whole(a["out_h"], a["out_w"])
            before = [writer.add("Shape", [image]), writer.whole(0), writer.whole(2)]
            kept = writer.add("Slice", before)
            empty = "" if writer.opset >= 13 else writer.constant([])
            ends = [region, empty, writer.add("Concat", [kept, given], axis=0)]
        writer.add("Resize", [image, *ends], op.results[0], **how)

    return apply


WINDOWS: Mapping[str, Callable[[Writer, Operator], None]] = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv2d_transpose"), _convolution),
    "pool2d": _pool,
    "nearest_interp": _resize("nearest"),
    "nearest_interp_v2": _resize("nearest"),
    "bilinear_interp": _resize("linear"),
    "bilinear_interp_v2": _resize("linear"),
}
