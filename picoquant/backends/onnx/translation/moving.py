"""Operators that compute nothing, in ONNX: they move values, take parts, join."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from picoquant.backends.onnx.translation.writer import Writer, inputs_of
from picoquant.errors import ToolError
from picoquant.paddle_program.graph import Operator


def _concat(writer: Writer, op: Operator) -> None:
    writer.add("Concat", inputs_of(op, "X"), op.results[0], axis=op.attributes["axis"])


def _split(writer: Writer, op: Operator) -> None:
    (x,), axis = inputs_of(op, "X"), op.attributes["axis"]
    sizes = list(op.attributes.get("sections") or ())
    if not sizes:
        whole = writer.shape(x)[axis]
        sizes = [whole // len(op.results)] * len(op.results)
    if any(size < 1 for size in sizes):
        raise ToolError(f"split ({op.name}) into parts of unknown size is not converted without paddle2onnx")
    if writer.opset < 13:
        writer.add_many("Split", [x], op.results, axis=axis, split=sizes)
    else:
        writer.add_many("Split", [x, writer.whole(*sizes)], op.results, axis=axis)


def _slice(writer: Writer, op: Operator) -> None:
    a = op.attributes
    starts = writer.numbers(op, "StartsTensor", "StartsTensorList") or writer.whole(*a["starts"])
    ends = writer.numbers(op, "EndsTensor", "EndsTensorList") or writer.whole(*a["ends"])
    steps = [writer.whole(*a["strides"])] if op.op_type == "strided_slice" else []
    dropped = list(a.get("decrease_axis") or ())
    inputs = [*inputs_of(op, "Input"), starts, ends, writer.whole(*a["axes"]), *steps]
    found = writer.add("Slice", inputs, None if dropped else op.results[0])
    if dropped:
        writer.squeeze(found, dropped, op.results[0])


def _stack(writer: Writer, op: Operator) -> None:
    axis, names = op.attributes["axis"], inputs_of(op, "X")
    axis = axis if axis >= 0 else axis + writer.rank(names[0]) + 1
    parts = [writer.squeeze(name, [axis], back=True) for name in names]
    writer.add("Concat", parts, op.results[0], axis=axis)


def _reshape(writer: Writer, op: Operator) -> None:
    shape = writer.numbers(op, "Shape", "ShapeTensor") or writer.whole(*op.attributes["shape"])
    writer.add("Reshape", [*inputs_of(op, "X"), shape], op.results[0])


def _transpose(writer: Writer, op: Operator) -> None:
    writer.add("Transpose", inputs_of(op, "X"), op.results[0], perm=list(op.attributes["axis"]))


def _flatten(writer: Writer, op: Operator) -> None:
    (x,) = inputs_of(op, "X")
    rank = writer.rank(x)
    first, last = (axis % rank for axis in (op.attributes["start_axis"], op.attributes["stop_axis"]))
    behind = list(writer.shape(x)[last + 1 :])
    if any(size < 1 for size in behind):
        raise ToolError(
            f"flatten ({op.name}) before axes of unknown size is not converted without paddle2onnx"
        )
    writer.add("Reshape", [x, writer.whole(*[0] * first, -1, *behind)], op.results[0])


def _squeeze(back: bool) -> Callable[[Writer, Operator], None]:
    def apply(writer: Writer, op: Operator) -> None:
        (x,) = inputs_of(op, "X")
        axes = list(op.attributes["axes"])
        if not axes:
            axes = [axis for axis, size in enumerate(writer.shape(x)) if size == 1]
        writer.squeeze(x, axes, op.results[0], back)

    return apply


def _gather(writer: Writer, op: Operator) -> None:
    names = [*inputs_of(op, "X"), *inputs_of(op, "Index")]
    writer.add("Gather", names, op.results[0], axis=op.attributes.get("axis", 0))


def _tile(writer: Writer, op: Operator) -> None:
    times = writer.numbers(op, "RepeatTimes", "repeat_times_tensor") or writer.whole(
        *op.attributes["repeat_times"]
    )
    writer.add("Tile", [*inputs_of(op, "X"), times], op.results[0])


def _expand(writer: Writer, op: Operator) -> None:
    sizes = writer.numbers(op, "Shape", "expand_shapes_tensor")
    if sizes is None:
        sizes = writer.whole(*(1 if size < 0 else size for size in op.attributes["shape"]))
    writer.add("Expand", [*inputs_of(op, "X"), sizes], op.results[0])


def _unstack(writer: Writer, op: Operator) -> None:
    (x,), axis = inputs_of(op, "X"), op.attributes["axis"]
    for place, name in enumerate(op.results):
        writer.add("Gather", [x, writer.constant(place, "int64")], name, axis=axis)


def _pixel_shuffle(writer: Writer, op: Operator) -> None:
    size = op.attributes["upscale_factor"]
    writer.add("DepthToSpace", inputs_of(op, "X"), op.results[0], blocksize=size, mode="CRD")


def _shuffle(writer: Writer, op: Operator) -> None:
    (x,), a = inputs_of(op, "X"), op.attributes
    groups = a.get("groups", a.get("group", 1))
    _, channels, height, width = writer.shape(x)
    apart = writer.add("Reshape", [x, writer.whole(0, groups, channels // groups, -1)])
    mixed = writer.add("Transpose", [apart], perm=[0, 2, 1, 3])
    sides = [0, channels, height, width] if height > 0 and width > 0 else None
    if sides is None:
        raise ToolError(
            f"{op.op_type} ({op.name}) of images of any size is not converted without paddle2onnx"
        )
    writer.add("Reshape", [mixed, writer.whole(*sides)], op.results[0])


MOVING: Mapping[str, Callable[[Writer, Operator], None]] = {
    "concat": _concat,
    "split": _split,
    "slice": _slice,
    "strided_slice": _slice,
    "stack": _stack,
    "reshape": _reshape,
    "reshape2": _reshape,
    "transpose": _transpose,
    "transpose2": _transpose,
    "flatten_contiguous_range": _flatten,
    "squeeze2": _squeeze(back=False),
    "unsqueeze2": _squeeze(back=True),
    "gather": _gather,
    "tile": _tile,
    "expand_v2": _expand,
    "unstack": _unstack,
    "pixel_shuffle": _pixel_shuffle,
    "channel_shuffle": _shuffle,
    "shuffle_channel": _shuffle,
}
