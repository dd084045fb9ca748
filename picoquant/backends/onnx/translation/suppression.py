"""NMS inside of a network, in ONNX: of one image, as paddle2onnx's form of it."""

from __future__ import annotations

from onnx import TensorProto

from picoquant.backends.onnx.translation.writer import Writer, inputs_of, outputs_of
from picoquant.errors import ToolError
from picoquant.paddle_program.graph import Operator


def multiclass_nms(writer: Writer, op: Operator) -> None:
    """`multiclass_nms3`: boxes `[1, M, 4]`, scores `[1, C, M]` -> `[K, 6]` by falling score, and how many.

    ONNX has no limit on the boxes that take part; those kept of a class are limited to as many.

    Raises: `ToolError` for settings that no PicoDet has.
    """
    (boxes,), (scores,), a = inputs_of(op, "BBoxes"), inputs_of(op, "Scores"), op.attributes
    if a.get("background_label", -1) >= 0 or a.get("nms_eta", 1.0) != 1.0 or inputs_of(op, "RoisNum"):
        raise ToolError(f"multiclass_nms3 ({op.name}) with a background class or a decay is not converted")
    limits = [writer.constant([a[name]]) for name in ("nms_threshold", "score_threshold")]
    # -1: no limit.
    most = a["nms_top_k"] if a["nms_top_k"] > 0 else 2**31
    found = writer.add(
        "NonMaxSuppression", [boxes, scores, writer.whole(most), *limits]
    )  # [K, 3]: image, class, box
    whole = [writer.whole(number) for number in range(4)]
    where = writer.add("Slice", [found, whole[1], whole[3], whole[1]])
    kinds, places = (writer.add("Slice", [found, whole[at], whole[at + 1], whole[1]]) for at in (1, 2))
    value = writer.add("GatherND", [writer.squeeze(scores, [0]), where])
    place = writer.squeeze(places, [1])
    corners = writer.add("Gather", [writer.squeeze(boxes, [0]), place], axis=0)
    kind = writer.add("Cast", [kinds], to=TensorProto.FLOAT)
    rows = writer.add("Concat", [kind, writer.squeeze(value, [1], back=True), corners], axis=1)
    count = writer.add("Shape", [value])
    if a["keep_top_k"] > 0:
        both = writer.add("Concat", [count, writer.whole(a["keep_top_k"])], axis=0)
        count = writer.add("ReduceMin", [both], axes=[0], keepdims=1)
    order, best = f"{op.name}.order", f"{op.name}.scores"
    writer.add_many("TopK", [value, count], [best, order], axis=0)
    writer.add("Gather", [rows, order], outputs_of(op, "Out")[0], axis=0)
    for name in outputs_of(op, "Index"):
        index = writer.add("Gather", [places, order], axis=0)
        writer.add("Cast", [index], name, to=TensorProto.INT32)
    for name in outputs_of(op, "NmsRoisNum"):
        writer.add("Cast", [count], name, to=TensorProto.INT32)
