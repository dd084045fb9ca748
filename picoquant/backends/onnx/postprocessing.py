"""Put post-processing behind the raw outputs of an ONNX PicoDet: boxes and scores, or detections.

The same numbers as `postprocess.Decoder` gives, in float: `L` anchor points over all levels, `C` classes,
`R` = reg_max, `M` detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from picoquant.paddle_program.infer_config import InferConfig
from picoquant.postprocess import Decoder, NmsSettings
from picoquant.postprocess.decode import SCORE_EPS, anchor_points

KINDS = ("raw", "boxes", "detections")


def with_outputs(model: onnx.ModelProto, kind: str, config: InferConfig) -> onnx.ModelProto:
    """A model with raw outputs as one of another kind.

    Args:
        model: for one image, with raw outputs; not changed.
        kind: `raw`: as it is; `boxes`: outputs `boxes [1, L, 4]` (x1 y1 x2 y2, input pixels) and `scores
            [1, C, L]`; `detections`: another input `scale_factor [1, 2]` (input size / image size, y then
            x) and outputs `bbox [M, 6]` (class, score, x1, y1, x2, y2 in image pixels, by class, then by
            score) and `bbox_num [1]`.
        config: for input size, strides, `raw_outputs` and NMS.

    Raises: `ValueError` for another kind; `WeightsError` when the outputs are not a PicoDet's raw ones.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {KINDS}")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if kind == "raw":
        return copy
    tail = _Tail(copy)
    boxes, scores = tail.boxes_and_scores(config)
    if kind == "boxes":
        shape = [1, tail.classes, tail.points]
        tail.finish([(boxes, "boxes", [1, tail.points, 4]), (scores, "scores", shape)])
    else:
        tail.detections(boxes, scores, config.nms)
    onnx.checker.check_model(copy, full_check=True)
    return copy


class _Tail:
    """Appends nodes to a model; every name starts with `post.`."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._count = 0
        self.classes = self.points = 0

    def node(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; arrays among its inputs become constants. Returns the names of its results."""
        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        self._count += 1
        results = [f"post.{kind}.{self._count}" + (f".{i}" if i else "") for i in range(outputs)]
        self._graph.node.append(helper.make_node(kind, names, results, results[0], **attributes))
        return results[0] if outputs == 1 else results

    def _constant(self, value: np.ndarray) -> str:
        self._count += 1
        name = f"post.constant.{self._count}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def boxes_and_scores(self, config: InferConfig) -> tuple[str, str]:
        """`[1, L, 4]` in input pixels and `[1, C, L]`, from the outputs that the graph has."""
        outputs = [
            (item.name, [dim.dim_value for dim in item.type.tensor_type.shape.dim])
            for item in self._graph.output
        ]
        decoder = Decoder.of(*zip(*outputs), config, model="the ONNX model")
        levels = len(config.strides)
        self.classes, bins = outputs[0][1][2], outputs[-1][1][2] // 4
        parts = [
            self.node("Concat", *(name for name, _ in outputs[start : start + levels]), axis=1)
            for start in range(0, len(outputs), levels)
        ]
        classes, *alignment, distances = parts
        if decoder.raw_outputs == "logits":
            classes = self.node("Sigmoid", classes)
            if alignment:
                product = self.node("Mul", classes, self.node("Sigmoid", alignment[0]))
                classes = self.node("Sqrt", self.node("Add", product, np.float32(SCORE_EPS)))
        scores = self.node("Transpose", classes, perm=[0, 2, 1])
        return self._boxes(distances, bins, config), scores

    def _boxes(self, distances: str, bins: int, config: InferConfig) -> str:
        """Distances' logits `[1, L, 4 * bins]` -> boxes `[1, L, 4]`."""
        points, strides = anchor_points(config.input_size, config.strides)
        self.points = len(points)
        shape = np.array([1, len(points), 4, bins], np.int64)
        chances = self.node("Softmax", self.node("Reshape", distances, shape), axis=3)
        expected = self.node("MatMul", chances, np.arange(bins, dtype=np.float32)[:, None])
        sides = self.node("Reshape", expected, np.array([1, len(points), 4], np.int64))
        signs = np.array([-1, -1, 1, 1], np.float32)
        pixels = self.node("Mul", sides, (signs * strides)[None].astype(np.float32))
        return self.node("Add", pixels, (np.tile(points, 2) * strides)[None].astype(np.float32))

    def detections(self, boxes: str, scores: str, nms: NmsSettings) -> None:
        """NMS by ONNX's NonMaxSuppression, then the best of all classes, by class and score."""
        self._graph.input.append(helper.make_tensor_value_info("scale_factor", TensorProto.FLOAT, [1, 2]))
        order = np.array([1, 0, 1, 0], np.int64)
        scale = self.node("Gather", "scale_factor", order, axis=1)
        boxes = self.node("Div", boxes, self.node("Unsqueeze", scale, np.array([1], np.int64)))
        most = np.int64(np.iinfo(np.int32).max)
        chosen = self.node(
            "NonMaxSuppression",
            boxes,
            self._best_of_class(scores, nms),
            most[None],
            np.float32([nms.nms_threshold]),
            np.float32([nms.score_threshold]),
        )  # [M, 3]: image, class, point; by class, then by score
        kept = self.node("GatherND", scores, chosen)
        if nms.keep_top_k > 0:
            limit = self.node("Min", self.node("Shape", kept), np.array([nms.keep_top_k], np.int64))
            _, best = self.node("TopK", kept, limit, outputs=2)
            # Their places, ascending: by class, then by score again.
            places, _ = self.node("TopK", best, limit, outputs=2, largest=0)
            chosen, kept = (self.node("Gather", name, places, axis=0) for name in (chosen, kept))
        classes = self.node("Gather", chosen, np.array([1], np.int64), axis=1)
        points = self.node("Gather", chosen, np.array(2, np.int64), axis=1)
        corners = self.node("Gather", self.node("Squeeze", boxes, np.array([0], np.int64)), points, axis=0)
        rows = self.node(
            "Concat",
            self.node("Cast", classes, to=TensorProto.FLOAT),
            self.node("Unsqueeze", kept, np.array([1], np.int64)),
            corners,
            axis=1,
        )
        count = self.node("Cast", self.node("Shape", kept), to=TensorProto.INT32)
        self.finish([(rows, "bbox", ["M", 6]), (count, "bbox_num", [1])])

    def _best_of_class(self, scores: str, nms: NmsSettings) -> str:
        """Scores `[1, C, L]` with 0 for all but the `nms_top_k` best of each class."""
        if not 0 < nms.nms_top_k < self.points:
            return scores
        limit = np.array([nms.nms_top_k], np.int64)
        values, places = self.node("TopK", scores, limit, outputs=2, axis=2)
        shape = np.array([1, self.classes, self.points], np.int64)
        nothing = self.node("ConstantOfShape", shape, value=numpy_helper.from_array(np.zeros(1, np.float32)))
        return self.node("ScatterElements", nothing, places, values, axis=2)

    def finish(self, outputs: Sequence[tuple[str, str, list]]) -> None:
        """Name the results and make them the graph's outputs."""
        del self._graph.output[:]
        for name, title, shape in outputs:
            for node in self._graph.node:
                for names in (node.input, node.output):
                    names[:] = [title if one == name else one for one in names]
            kind = TensorProto.INT32 if title == "bbox_num" else TensorProto.FLOAT
            self._graph.output.append(helper.make_tensor_value_info(title, kind, shape))
