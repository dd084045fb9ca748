"""Fonts that have the characters of class names: matplotlib's DejaVu Sans, else whatever the system has.

No font is shipped. DejaVu Sans comes with matplotlib, so Latin, Greek, Cyrillic and Arabic names look the same on every
machine; Chinese, Japanese and Korean need a font of the system or of the user.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# Parts of file names (lower case, letters and digits only), best first: sans serif faces made for screens. Where a
# Han character looks different in China and Japan, the Chinese shape comes first.
_PREFERRED = (
    "notosanscjksc", "notosanssc", "sourcehansanssc", "sourcehansanscn", "notosanscjk", "sourcehansans", "msyh",
    "pingfang", "hiraginosansgb", "wqymicrohei", "wqyzenhei", "stheiti", "simhei", "droidsansfallback", "malgun",
    "applesdgothic", "nanumgothic", "hiragino", "yugoth", "meiryo", "arialunicode", "notosans", "arial",
)  # fmt: skip
_STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "serif", "condensed")
# Fonts that have a placeholder for every character, and coloured bitmaps, which do not scale.
_USELESS = ("lastresort", "adobeblank", "notdef", "coloremoji")
_SHAPED = ((0x0900, 0x0DFF), (0x1000, 0x109F), (0x1780, 0x17FF))  # scripts of India, Burmese, Khmer


@dataclass(frozen=True)
class Run:
    """A part of a text that one font draws.

    Attributes:
        text: its characters.
        font: path of the font file.
        face: index of the face in the file.
    """

    text: str
    font: str
    face: int = 0


def base_font() -> str:
    """Path of matplotlib's DejaVu Sans."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def system_fonts() -> list[str]:
    """Paths of the system's and the user's fonts (fontconfig, macOS, Windows), those that suit labels first."""
    from matplotlib.font_manager import findSystemFonts

    named = {path: re.sub("[^a-z0-9]", "", Path(path).name.lower()) for path in findSystemFonts()}

    def rank(path: str) -> tuple[int, int, str]:
        name = named[path]
        preferred = next((place for place, part in enumerate(_PREFERRED) if part in name), len(_PREFERRED))
        return preferred, sum(style in name for style in _STYLES), name

    useful = [path for path, name in named.items() if not any(part in name for part in _USELESS)]
    return sorted(useful, key=rank)


def visible_text(name: str) -> str:
    """A name in one line, accents composed; empty where nothing of it would be seen."""
    text = unicodedata.normalize("NFC", " ".join(name.split()))
    text = "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cs"))
    return text if any(map(_has_glyph, text)) else ""


def split_runs(text: str, fonts: Iterable[str]) -> tuple[Run, ...]:
    """Split a text into parts of one font each; one part where a font has all its characters.

    Args:
        text: see `visible_text`; not empty.
        fonts: paths, the best first; read only as far as needed.

    Returns: nothing where no font has one of the characters, or Pillow cannot lay them out.
    """
    if _needs_shaping(text) and not _can_shape():
        return ()
    needed = {ord(letter) for letter in text if _has_glyph(letter)}
    owner: dict[int, str] = {}
    for font in fonts:
        there = needed & characters(font)
        if there == needed:
            return (Run(text, font, _face(font)),)
        owner |= {code: font for code in there if code not in owner}
    if needed - owner.keys():
        return ()
    runs: list[Run] = []
    first = next(owner[ord(letter)] for letter in text if ord(letter) in owner)
    for letter in text:
        font = owner.get(ord(letter)) or (
            runs[-1].font if runs else first
        )  # what is not seen goes with the last
        if runs and runs[-1].font == font:
            runs[-1] = Run(runs[-1].text + letter, font, runs[-1].face)
        else:
            runs.append(Run(letter, font, _face(font)))
    return tuple(runs)


def missing_characters(text: str, fonts: Sequence[str]) -> str:
    """The characters of a text that no font has."""
    return "".join(
        letter
        for letter in dict.fromkeys(text)
        if _has_glyph(letter) and not any(ord(letter) in characters(font) for font in fonts)
    )


@lru_cache(None)
def characters(font: str) -> frozenset[int]:
    """Code points that a font file has glyphs for; none for a file that is no scalable font."""
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    try:
        ImageFont.truetype(font, 16)
        return frozenset(FT2Font(font).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@lru_cache(None)
def _face(font: str) -> int:
    """The face of a collection with Chinese shapes, else the first."""
    from PIL import ImageFont

    if not font.lower().endswith((".ttc", ".otc")):
        return 0
    for index in range(16):
        try:
            family = ImageFont.truetype(font, 16, index=index).getname()[0] or ""
        except OSError:
            break
        if re.search(r"\b(SC|CN|GB)$", family):
            return index
    return 0


def _has_glyph(letter: str) -> bool:
    """Whether a character is to be seen: no space, joiner or choice of variant."""
    return not letter.isspace() and unicodedata.category(letter) != "Cf" and letter != "\ufe0f"


def _needs_shaping(text: str) -> bool:
    """Whether a text is unreadable when its characters just stand side by side, left to right."""
    return any(
        unicodedata.bidirectional(letter) in ("R", "AL")
        or any(first <= ord(letter) <= last for first, last in _SHAPED)
        for letter in text
    )


def _can_shape() -> bool:
    """Whether Pillow found libraqm and fribidi."""
    from PIL import features

    return bool(features.check("raqm"))
