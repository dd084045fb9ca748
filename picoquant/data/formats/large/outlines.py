"""Outlines, which nobody here looks at, are nine tenths of a COCO file: cut out of its text before that is parsed."""

from __future__ import annotations

import re

_KEY = b'"segmentation":'
_OUTLINE = re.compile(rb'"segmentation"\s*:\s*\[[^"{}]*\]')
_UP_TO_A_QUOTE = re.compile(rb'"segmentation"\s*:\s*(\[[^"]*\])(?=\s*[,}])')


def without_outlines(text: bytes) -> bytes:
    """JSON's text with 0 in place of each list of outlines; what is no list of numbers stays.

    Of a text that is JSON nothing else can be taken for an outline, for within a text the quotes of a key have a
    backslash.
    """
    pieces = _UP_TO_A_QUOTE.split(text)  # in half the time of the exact expression
    cut = b"".join(pieces[1::2])
    if b"{" in cut or b"}" in cut:
        return _OUTLINE.sub(_KEY + b"0", text)
    return (_KEY + b"0").join(pieces[::2])
