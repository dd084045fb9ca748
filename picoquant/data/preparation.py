"""How an evaluation reader makes the network's input, which has one size, of an image of any size."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks

LOG = logging.getLogger("picoquant")

PLACES = ("end", "centre", "start")  # of the padding, by PaddleDetection's `pad_mode`: 0, 1, 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of NormalizeImage where it names none
_LETTERBOX = {"interp": 3, "keep_ratio": True}  # what PaddleDetection's LetterBoxResize always does
_PAD_GREY, _BOX_GREY = (
    (127.5, 127.5, 127.5),
    (128.0, 128.0, 128.0),
)  # of Pad, of LetterBoxResize (127.5 on uint8)


@dataclass(frozen=True)
class Preparation:
    """What becomes of an image.

    Attributes:
        size: height and width of the network's input, pixels.
        interp: OpenCV's number of the interpolation.
        keep_ratio: the image is made as large as fits, and the rest of the input is padding.
        padding: where that is: `end` (right and below), `centre` (on all sides), `start` (left and above).
        fill: its colour, pixels before they are normalised; None: 0 after that, the mean's colour.
    """

    size: tuple[int, int]
    interp: int = 1
    keep_ratio: bool = False
    padding: str = "end"
    fill: tuple[float, float, float] | None = None


def preparation_of(specs: Sequence[Any], where: str) -> Preparation | None:
    """What the transforms of an evaluation reader do, those of samples, then those of batches; None without Resize.

    Padding fills the whole input, also where PadBatch or Pad's size_divisor would end at a multiple of a stride: the
    network that is exported has one size.

    Args:
        specs: all of the reader's, `TransformSpec`.
        where: the section, for messages.

    Raises: `ConfigError` naming what does not go together.
    """
    resizes = [spec for spec in specs if spec.name in ("Resize", "LetterBoxResize")]
    if not resizes:
        return None
    spec = resizes[0]
    letterbox = spec.name == "LetterBoxResize"
    params: dict[str, Any] = {**spec.params, **(_LETTERBOX if letterbox else {})}
    size = checks.size("target_size", params["target_size"])
    pad = next((spec for spec in specs if spec.name == "Pad"), None)
    interp, keep_ratio = int(params.get("interp", 1)), bool(params.get("keep_ratio", True))
    if pad is not None:
        _require_fits(pad, specs, size, where, keep_ratio)
    if letterbox:
        return Preparation(size, interp, True, "centre", _BOX_GREY)
    if not keep_ratio or pad is None:
        return Preparation(size, interp, keep_ratio)
    fill = pad.params.get("fill_value", _PAD_GREY)
    fill = checks.numbers("fill_value", fill if isinstance(fill, (list, tuple)) else [fill] * 3, 3)
    normalised = specs.index(pad) > _place(specs, "NormalizeImage")
    return Preparation(
        size,
        interp,
        True,
        PLACES[pad.params.get("pad_mode", 0)],
        None if normalised else (fill[0], fill[1], fill[2]),
    )


def tell_other_shapes(training: Any, evaluation: Any) -> None:
    """Say where images are stretched or padded in training otherwise than in evaluation and on a board.

    Args:
        training, evaluation: `ReaderSettings` of TrainReader and EvalReader.
    """
    made, specs = evaluation.preparation, (*training.sample_transforms, *training.batch_transforms)
    resizes = [spec for spec in specs if spec.name.endswith("Resize")]
    if made is None or not resizes:
        return
    last = resizes[-1]
    letterbox = last.name == "LetterBoxResize"
    keeps = letterbox or bool(last.params.get("keep_ratio", last.name == "RandomResize"))
    if keeps != made.keep_ratio:
        how = ("stretches images", "keeps the ratio of their sides")
        LOG.warning(
            "TrainReader %s and EvalReader %s: the network is trained on other shapes than it is evaluated on and "
            "exported for",
            how[keeps],
            how[made.keep_ratio],
        )
    elif (
        keeps and not letterbox and not any(spec.name == "Pad" and spec.params.get("size") for spec in specs)
    ):
        LOG.warning(
            "TrainReader pads to a multiple of a stride, and EvalReader the whole input of %dx%d: the network has not "
            "learnt that much padding; Pad: {size: [%d, %d]} behind TrainReader's resize teaches it",
            *made.size,
            *made.size,
        )


def _require_fits(
    pad: Any, specs: Sequence[Any], size: tuple[int, int], where: str, keep_ratio: bool
) -> None:
    wanted = pad.params.get("size")
    if wanted is not None and checks.size("size", wanted) != size:
        raise ConfigError(
            f"{where}: Pad.size is {wanted!r}, but the image is resized to fit {list(size)}: give both the same, the "
            "network's input"
        )
    divisor = pad.params.get("size_divisor", 32)
    if not keep_ratio and wanted is None and any(side % divisor for side in size):
        raise ConfigError(
            f"{where}: Pad makes more of {list(size)} than Resize names, which is the network's input: name there what "
            "it is to be"
        )
    if pad.params.get("pad_mode", 0) == -1:
        raise ConfigError(f"{where}: Pad.pad_mode -1 (offsets) is for training; take 0, 1 or 2")
    if keep_ratio and specs.index(pad) < _place(specs, "Resize"):
        raise ConfigError(
            f"{where}: Pad stands before Resize; put it behind it, where it fills what is left over"
        )


def _place(specs: Sequence[Any], name: str) -> int:
    """Where a transform stands; behind all others where it is not there."""
    return next((place for place, spec in enumerate(specs) if spec.name == name), len(specs))
