"""Drawing of detections into an image."""

from __future__ import annotations

import colorsys
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from picoquant.postprocess import Detections
from picoquant.prediction.fonts import (
    Run,
    base_font,
    missing_characters,
    split_runs,
    system_fonts,
    visible_text,
)

LOG = logging.getLogger("picoquant")

_SHOWN, _LETTERS = 3, 8  # class names and characters in a message


def colour(label: int) -> tuple[int, int, int]:
    """Colour of a class index, RGB, 0 to 255 each.

    The hue advances by the golden angle for each class, so that neighbouring classes have clearly different
    colours.
    """
    red, green, blue = colorsys.hsv_to_rgb((label * 0.381966) % 1.0, 0.85, 0.95)
    return int(255 * red), int(255 * green), int(255 * blue)


class Painter:
    """Draws boxes, class names in any script, and scores.

    A class whose name no font here can draw is labelled with its index; one warning names all of these classes.
    """

    def __init__(self, labels: Sequence[str], fonts: Callable[[], Sequence[str]] = system_fonts) -> None:
        """Find a font for each name.

        Args:
            labels: class names by class index; a class without a name is labelled with its index.
            fonts: called, once, for the paths of more fonts when `base_font` lacks a character.
        """
        self._base = base_font()
        self._names: dict[int, tuple[Run, ...]] = {}
        more: Sequence[str] | None = None
        lacking: list[int] = []
        texts = [visible_text(name) for name in labels]
        for label, text in enumerate(texts):
            if not text:
                continue
            runs = split_runs(text, [self._base])
            if not runs:
                more = fonts() if more is None else more
                runs = split_runs(text, [self._base, *more])
            if runs:
                self._names[label] = runs
            else:
                lacking.append(label)
        if lacking:
            self._warn(lacking, texts, [self._base, *(more or ())])

    @staticmethod
    def _warn(lacking: Sequence[int], texts: Sequence[str], fonts: Sequence[str]) -> None:
        names = ", ".join(f"{label} = {texts[label]}" for label in lacking[:_SHOWN])
        names += ", …" if len(lacking) > _SHOWN else ""
        letters = missing_characters("".join(texts[label] for label in lacking), fonts)
        if letters:
            LOG.warning(
                "no font here has %s: %d class names are drawn as numbers (%s); install one (Noto Sans has every "
                "script), or put its file into ~/.local/share/fonts",
                letters if len(letters) <= _LETTERS else letters[:_LETTERS] + "…",
                len(lacking),
                names,
            )
        else:
            LOG.warning(
                "Pillow finds no fribidi, which lays out Arabic and Indian scripts: %d class names are drawn as "
                "numbers (%s); install it, on Debian: apt-get install libfribidi0",
                len(lacking),
                names,
            )

    def draw(self, image: np.ndarray, found: Detections) -> np.ndarray:
        """Draw into a copy of an image.

        Args:
            image: `[H, W, 3]` uint8 RGB.
            found: detections, boxes `[x1, y1, x2, y2]` in image pixels; those without a score (nan) get the name alone.
        """
        from PIL import Image, ImageDraw

        height, width = image.shape[:2]
        canvas = Image.fromarray(np.ascontiguousarray(image))
        pen = ImageDraw.Draw(canvas)
        thick = max(1, round(max(height, width) / 400))
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.clip(found.boxes, 0, limits - 1).round().astype(int).reshape(-1, 4)
        order = np.argsort(found.scores, kind="stable").tolist()  # the surest on top
        for index in order:
            pen.rectangle(boxes[index].tolist(), outline=colour(int(found.classes[index])), width=thick)
        for index in order:
            self._draw_label(
                pen, int(found.classes[index]), float(found.scores[index]), boxes[index], (width, height)
            )
        return np.array(canvas)

    def _draw_label(self, pen: Any, label: int, score: float, box: np.ndarray, size: tuple[int, int]) -> None:
        """Name and score on a filled background above the box, or inside it where there is no room above."""
        pixels = max(11, round(max(size) / 44))
        runs = self._names.get(label) or (Run(str(label), self._base),)
        if not math.isnan(score):
            runs = (*runs, Run(f" {score:.2f}", self._base))
        fonts = [_font(run.font, run.face, pixels) for run in runs]
        extents = [font.getbbox(run.text, anchor="ls") for run, font in zip(runs, fonts)]
        extents.append(_font(self._base, 0, pixels).getbbox("Ag", anchor="ls"))  # labels of one height
        above, below = -min(box[1] for box in extents), max(box[3] for box in extents)
        widths = [round(font.getlength(run.text)) for run, font in zip(runs, fonts)]
        margin = max(1, pixels // 8)
        wide, tall = round(sum(widths)) + 2 * margin, round(above + below) + 2 * margin
        left = int(max(0, min(box[0], size[0] - wide)))
        top = int(max(0, box[1] - tall))
        fill = colour(label)
        pen.rectangle((left, top, left + wide - 1, top + tall - 1), fill=fill)
        bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 125
        at = left + margin
        for run, font, length in zip(runs, fonts, widths):
            place = (at, top + margin + round(above))
            pen.text(place, run.text, font=font, fill=(0, 0, 0) if bright else (255, 255, 255), anchor="ls")
            at += length


@lru_cache(64)
def _font(path: str, face: int, pixels: int) -> Any:
    from PIL import ImageFont

    font = ImageFont.truetype(path, pixels, index=face)
    with contextlib.suppress(OSError, ValueError, NotImplementedError):  # no variable font, or not this name
        font.set_variation_by_name("Regular")  # a variable font starts with its thinnest
    return font
