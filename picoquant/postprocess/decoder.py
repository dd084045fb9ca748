"""One decoder for the outputs of every form of a PicoDet model.

`N` images, `C` classes, `L` anchor points over all levels, `R` = reg_max, `M` detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from picoquant.errors import WeightsError
from picoquant.postprocess.decode import (
    anchor_points,
    decode_boxes,
    level_sizes,
    promising,
    scores_of_logits,
)
from picoquant.postprocess.detections import Detections
from picoquant.postprocess.nms import multiclass_nms
from picoquant.postprocess.settings import NmsSettings

KINDS = ("detections", "boxes", "raw")


class Decoder:
    """Turns a model's outputs into the detections of each image.

    Args:
        kind: `detections` (outputs `[M, 6]` class score x1 y1 x2 y2 in image pixels, and `[N]` rows
            of each image), `boxes` (`[N, L, 4]` input pixels and `[N, C, L]`) or `raw` (class outputs
            `[N, H*W, C]` of every level, alignment logits `[N, H*W, 1]` of every level where the head
            has them, distance logits `[N, H*W, 4 * (R + 1)]` of every level).
        nms: settings of the suppression; not used by `detections`, whose model contains its own.
        input_size: height and width of the network's input, pixels; required by `raw`.
        strides: pixels per cell of each level; required by `raw`.
        raw_outputs: whether the class outputs of `raw` are `scores`, 0 to 1, or `logits`.
        names: names of the outputs, for messages.
        model: name of the model, for messages.
    """

    def __init__(
        self,
        kind: str,
        nms: NmsSettings,
        input_size: Sequence[int] = (),
        strides: Sequence[int] = (),
        raw_outputs: str = "scores",
        names: Sequence[str] = (),
        model: str = "the model",
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of {KINDS}")
        self._names, self._model = tuple(names), model
        self.kind, self.nms, self.raw_outputs = kind, nms, raw_outputs
        self._levels = len(strides)
        if kind == "raw":
            self._points, self._strides = anchor_points(input_size, strides)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        shapes: Sequence[Sequence[int]],
        config: Any,
        nms: NmsSettings | None = None,
        model: str = "the model",
    ) -> Decoder:
        """The decoder that fits a model's outputs.

        Args:
            names: the outputs' names, for messages.
            shapes: the outputs' shapes; -1 for a dynamic size.
            config: `picoquant.export.InferConfig`, for its input size, strides, NMS and `raw_outputs`.
            nms: settings to use instead of those in `config`.
            model: name of the model, for messages.

        Raises: `WeightsError` if no kind has these shapes; it lists the outputs found and expected.
        """
        kind = _kind([tuple(shape) for shape in shapes], config.input_size, config.strides)
        if kind is None:
            found = ", ".join(f"{name} {list(shape)}" for name, shape in zip(names, shapes))
            raise WeightsError(
                f"{model} at input size {list(config.input_size)} with strides "
                f"{list(config.strides)} has {len(shapes)} outputs: {found or 'none'}; expected "
                f"{_expected(config.input_size, config.strides)}. Export it from a PicoDet"
            )
        aligned = len(shapes) == 3 * len(config.strides)  # an alignment map is exported only with logits
        raw_outputs = "logits" if aligned else config.raw_outputs
        return cls(kind, nms or config.nms, config.input_size, config.strides, raw_outputs, names, model)

    def decode(
        self, outputs: Sequence[np.ndarray], scale_factor: np.ndarray, pad_offset: np.ndarray | None = None
    ) -> list[Detections]:
        """Detections of a batch.

        Args:
            outputs: the model's outputs, in the model's order.
            scale_factor: `[N, 2]` float32, input size / image size, y then x.
            pad_offset: `[N, 2]` float32, rows of padding above the images and columns left of them; None: none.

        Returns: `N` `Detections`, in image pixels.

        Raises: `WeightsError` for an output with NaN or infinity, which would silently yield no detections.
        """
        found = self._decode(outputs, scale_factor)
        if pad_offset is None:
            return found
        # NMS does not see where the image lies in the input, so that its padding can be taken off at the end.
        before = (np.asarray(pad_offset, np.float32) / np.asarray(scale_factor, np.float32))[:, [1, 0, 1, 0]]
        return [
            Detections(each.classes, each.scores, each.boxes - corner) for each, corner in zip(found, before)
        ]

    def _decode(self, outputs: Sequence[np.ndarray], scale_factor: np.ndarray) -> list[Detections]:
        self._require_finite(outputs)
        if self.kind == "detections":
            return _split_images(outputs[0], outputs[1])
        scale = np.asarray(scale_factor, np.float32)[:, None, [1, 0, 1, 0]]
        if self.kind == "boxes":
            boxes, scores = outputs if outputs[0].shape[-1] == 4 else reversed(outputs)
            return [multiclass_nms(*pair, self.nms) for pair in zip(boxes / scale, scores)]
        parts = [
            np.concatenate(outputs[start : start + self._levels], axis=1)
            for start in range(0, len(outputs), self._levels)
        ]
        return [
            self._decode_raw([part[image] for part in parts], scale[image]) for image in range(len(parts[0]))
        ]

    def _require_finite(self, outputs: Sequence[np.ndarray]) -> None:
        for index, value in enumerate(outputs):
            if not np.isfinite(value).all():
                name = self._names[index] if index < len(self._names) else index + 1
                raise WeightsError(
                    f"{self._model}: output {name} holds values that are no finite numbers: the weights or the "
                    "preparation of the images (infer_cfg.yml) are wrong"
                )

    def _decode_raw(self, parts: Sequence[np.ndarray], scale: np.ndarray) -> Detections:
        """The detections of one image; only points that can have a score above the threshold are decoded.

        Args:
            parts: `[L, C]`, then `[L, 1]` if there is an alignment map, then `[L, 4 * (R + 1)]`.
            scale: input size / image size, as x y x y.
        """
        classes, *maps, distances = parts
        alignment = maps[0] if maps else None
        threshold = self.nms.score_threshold
        if self.raw_outputs == "logits":
            chosen = promising(classes, alignment, threshold)
            scores = scores_of_logits(classes[chosen], None if alignment is None else alignment[chosen])
        else:
            chosen = classes.max(axis=1) > threshold
            scores = classes[chosen]
        boxes = decode_boxes(distances[chosen], self._points[chosen], self._strides[chosen])
        return multiclass_nms(boxes / scale, scores.T, self.nms)


def _split_images(rows: np.ndarray, counts: np.ndarray) -> list[Detections]:
    """Split the rows `[M, 6]` of a batch into those of each image, of which `counts` `[N]` is the number."""
    starts = np.cumsum(counts.reshape(-1))[:-1]
    result = []
    for image in np.split(rows.reshape(-1, 6), starts):
        image = image[image[:, 0] >= 0]  # runtimes that cannot return 0 rows return one of class -1
        image = image[np.argsort(image[:, 0], kind="stable")]  # paddle2onnx's NMS sorts by score alone
        result.append(Detections(image[:, 0].astype(np.int64), image[:, 1], image[:, 2:]))
    return result


def _matches(size: int, expected: int) -> bool:
    """Whether a size is the expected one, or dynamic (-1)."""
    return size in (-1, expected)


def _kind(shapes: list[tuple[int, ...]], input_size: Sequence[int], strides: Sequence[int]) -> str | None:
    """The one of `KINDS` whose outputs have these shapes; None if there is none."""
    if len(shapes) == 2:
        first, second = shapes
        if len(first) == 2 and first[1] == 6 and len(second) in (1, 2):
            return "detections"
        points = sum(rows * columns for rows, columns in level_sizes(input_size, strides))
        for boxes, scores in ((first, second), (second, first)):
            ranks = len(boxes) == len(scores) == 3
            if ranks and boxes[2] == 4 and _matches(boxes[1], points) and _matches(scores[2], points):
                return "boxes"
    return "raw" if _is_raw(shapes, input_size, strides) else None


def _is_raw(shapes: list[tuple[int, ...]], input_size: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether these are the outputs of kind `raw`, with or without an alignment map."""
    levels = len(strides)
    if len(shapes) not in (2 * levels, 3 * levels) or any(len(shape) != 3 for shape in shapes):
        return False
    parts = [shapes[start : start + levels] for start in range(0, len(shapes), levels)]
    cells = [rows * columns for rows, columns in level_sizes(input_size, strides)]
    if not all(_matches(shape[1], count) for part in parts for shape, count in zip(part, cells)):
        return False
    widths = [{shape[2] for shape in part} for part in parts]
    if any(len(width) != 1 for width in widths) or (len(parts) == 3 and widths[1] != {1}):
        return False
    distances = widths[-1].pop()
    return distances % 4 == 0 and distances >= 8


def _expected(input_size: Sequence[int], strides: Sequence[int]) -> str:
    """The output shapes of all kinds, for a message."""
    cells = [rows * columns for rows, columns in level_sizes(input_size, strides)]
    points = sum(cells)
    raw = ", ".join(f"[N, {count}, C]" for count in cells)
    alignment = ", ".join(f"[N, {count}, 1]" for count in cells)
    logits = ", ".join(f"[N, {count}, 4*(R+1)]" for count in cells)
    return (
        f"[M, 6] and [N], or [N, {points}, 4] and [N, C, {points}], or {raw}, (where the head has an "
        f"alignment map {alignment},) {logits}"
    )
