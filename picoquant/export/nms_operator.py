"""Paddle's operator `multiclass_nms3`, for which paddle 2.6 has no public function."""

from __future__ import annotations

import paddle
from paddle import Tensor, _legacy_C_ops
from paddle.base.layer_helper import LayerHelper

from picoquant.postprocess.settings import NmsSettings
from picoquant.utils.paddle_version.differences import paddle_3

# Order of the attributes in Paddle 3's function. Source: `multiclass_nms3` in Paddle's `phi/ops/yaml/ops.yaml`.
_ORDER = (
    "score_threshold", "nms_top_k", "keep_top_k", "nms_threshold", "normalized", "nms_eta", "background_label",
)  # fmt: skip


@paddle.jit.not_to_static
def multiclass_nms3(boxes: Tensor, scores: Tensor, settings: NmsSettings) -> tuple[Tensor, Tensor]:
    """Multi-class NMS of a batch as one operator, in dygraph or within a static program.

    Args:
        boxes: `[N, L, 4]` float32, x1 y1 x2 y2.
        scores: `[N, C, L]` float32.
        settings: thresholds and limits.

    Returns: `[M, 6]` float32 (class, score, x1, y1, x2, y2) and the number of these rows per image,
        `[N]` int32.
    """
    attributes = {
        "background_label": -1,
        "score_threshold": settings.score_threshold,
        "nms_top_k": settings.nms_top_k,
        "nms_threshold": settings.nms_threshold,
        "keep_top_k": settings.keep_top_k,
        "nms_eta": 1.0,
        "normalized": True,
    }
    if paddle_3() and paddle.framework.in_pir_mode():  # a program of Paddle 3's own form is traced
        from paddle import _C_ops

        rows, _, counts = _C_ops.multiclass_nms3(boxes, scores, None, *(attributes[name] for name in _ORDER))
        return rows, counts
    if paddle.in_dynamic_mode():
        flat = [part for pair in attributes.items() for part in pair]
        rows, _, counts = _legacy_C_ops.multiclass_nms3(boxes, scores, None, *flat)
        return rows, counts
    helper = LayerHelper("multiclass_nms3")
    rows = helper.create_variable_for_type_inference(boxes.dtype)
    index, counts = (helper.create_variable_for_type_inference("int32") for _ in range(2))
    helper.append_op(
        type="multiclass_nms3",
        inputs={"BBoxes": boxes, "Scores": scores},
        outputs={"Out": rows, "Index": index, "NmsRoisNum": counts},
        attrs=attributes,
    )
    rows.stop_gradient = index.stop_gradient = counts.stop_gradient = True
    return rows, counts
