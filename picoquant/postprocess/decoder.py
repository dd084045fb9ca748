"""One decoder for every form in which a PicoDet leaves its results.

`N` images, `C` classes, `L` anchor points over all levels, `R` = reg_max, `M` detections.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from picoquant.errors import WeightsError
from picoquant.postprocess.decode import anchor_points, decode_boxes, level_sizes
from picoquant.postprocess.detections import Detections
from picoquant.postprocess.nms import multiclass_nms
from picoquant.postprocess.settings import NmsSettings

KINDS = ("detections", "boxes", "raw")


class Decoder:
    """Turns a model's outputs into the detections of each image.

    Args:
        kind: `detections` (outputs `[M, 6]` class score x1 y1 x2 y2 in image pixels, and `[N]` rows
            of each image), `boxes` (`[N, L, 4]` input pixels and `[N, C, L]`) or `raw` (scores
            `[N, H*W, C]` of every level, then logits `[N, H*W, 4 * (R + 1)]` of every level).
        nms: settings of the suppression; not used by `detections`, whose model holds its own.
        input_size: height and width of the network's input, pixels; needed by `raw`.
        strides: pixels per cell, a level each; needed by `raw`.
    """

    def __init__(
        self,
        kind: str,
        nms: NmsSettings,
        input_size: Sequence[int] = (),
        strides: Sequence[int] = (),
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of {KINDS}")
        self.kind, self.nms = kind, nms
        if kind == "raw":
            self._points, self._strides = anchor_points(input_size, strides)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        shapes: Sequence[Sequence[int]],
        config,
        nms: NmsSettings | None = None,
        model: str = "the model",
    ) -> Decoder:
        """The decoder that fits a model's outputs.

        Args:
            names: the outputs' names; they appear in messages only.
            shapes: the outputs' shapes; -1 for a size that may vary.
            config: `picoquant.export.InferConfig`, for its input size, strides and NMS.
            nms: settings to use in place of the model folder's own.
            model: what messages call the model.

        Raises: `WeightsError` that lists the outputs found and expected.
        """
        kind = _kind([tuple(shape) for shape in shapes], config.input_size, config.strides)
        if kind is None:
            found = ", ".join(f"{name} {list(shape)}" for name, shape in zip(names, shapes))
            raise WeightsError(
                f"{model} at input size {list(config.input_size)} with strides "
                f"{list(config.strides)} has {len(shapes)} outputs: {found or 'none'}; expected "
                f"{_expected(config.input_size, config.strides)}. Export it from a PicoDet"
            )
        return cls(kind, nms or config.nms, config.input_size, config.strides)

    def decode(self, outputs: Sequence[np.ndarray], scale_factor: np.ndarray) -> list[Detections]:
        """Detections of a batch.

        Args:
            outputs: the model's outputs, in its order.
            scale_factor: `[N, 2]` float32, input size / image size, y then x.

        Returns: `N` `Detections`, in image pixels.
        """
        if self.kind == "detections":
            return _split_images(outputs[0], outputs[1])
        scale = np.asarray(scale_factor, np.float32)[:, None, [1, 0, 1, 0]]
        if self.kind == "boxes":
            boxes, scores = outputs if outputs[0].shape[-1] == 4 else reversed(outputs)
            return [multiclass_nms(*pair, self.nms) for pair in zip(boxes / scale, scores)]
        levels = len(outputs) // 2
        scores = np.concatenate(outputs[:levels], axis=1)
        logits = np.concatenate(outputs[levels:], axis=1)
        return [self._decode_raw(*image) for image in zip(scores, logits, scale)]

    def _decode_raw(self, scores: np.ndarray, logits: np.ndarray, scale: np.ndarray) -> Detections:
        """One image: `[L, C]`, `[L, 4 * (R + 1)]`, `[1, 4]`; only promising points are decoded."""
        chosen = scores.max(axis=1) > self.nms.score_threshold
        boxes = decode_boxes(logits[chosen], self._points[chosen], self._strides[chosen])
        return multiclass_nms(boxes / scale, scores[chosen].T, self.nms)


def _split_images(rows: np.ndarray, counts: np.ndarray) -> list[Detections]:
    """Rows `[M, 6]` of a batch, `counts` `[N]` of them an image each."""
    starts = np.cumsum(counts.reshape(-1))[:-1]
    result = []
    for image in np.split(rows.reshape(-1, 6), starts):
        image = image[image[:, 0] >= 0]  # runtimes that cannot return no rows return class -1
        result.append(Detections(image[:, 0].astype(np.int64), image[:, 1], image[:, 2:]))
    return result


def _same(size: int, expected: int) -> bool:
    return size in (-1, expected)


def _kind(shapes: list[tuple[int, ...]], input_size: Sequence[int], strides: Sequence[int]) -> str | None:
    """Which of `KINDS` has outputs of these shapes; None: none."""
    if len(shapes) == 2:
        first, second = shapes
        if len(first) == 2 and first[1] == 6 and len(second) in (1, 2):
            return "detections"
        points = sum(rows * columns for rows, columns in level_sizes(input_size, strides))
        for boxes, scores in ((first, second), (second, first)):
            ranks = len(boxes) == len(scores) == 3
            if ranks and boxes[2] == 4 and _same(boxes[1], points) and _same(scores[2], points):
                return "boxes"
    return "raw" if _is_raw(shapes, input_size, strides) else None


def _is_raw(shapes: list[tuple[int, ...]], input_size: Sequence[int], strides: Sequence[int]) -> bool:
    levels = len(strides)
    if len(shapes) != 2 * levels or any(len(shape) != 3 for shape in shapes):
        return False
    scores, logits = shapes[:levels], shapes[levels:]
    cells = [rows * columns for rows, columns in level_sizes(input_size, strides)]
    return (
        all(_same(shape[1], count) for shape, count in zip(scores, cells))
        and all(_same(shape[1], count) for shape, count in zip(logits, cells))
        and len({shape[2] for shape in scores}) == 1
        and len({shape[2] for shape in logits}) == 1
        and logits[0][2] % 4 == 0
        and logits[0][2] >= 8
    )


def _expected(input_size: Sequence[int], strides: Sequence[int]) -> str:
    cells = [rows * columns for rows, columns in level_sizes(input_size, strides)]
    points = sum(cells)
    raw = ", ".join(f"[N, {count}, C]" for count in cells)
    logits = ", ".join(f"[N, {count}, 4*(R+1)]" for count in cells)
    return f"[M, 6] and [N], or [N, {points}, 4] and [N, C, {points}], or {raw}, {logits}"
