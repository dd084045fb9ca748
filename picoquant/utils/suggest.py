"""Errors for unknown keys, with the nearest known key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from picoquant.errors import ConfigError

_TYPING_ERROR = 0.7  # of `difflib`'s similarity; epohc and epoch have 0.8, bufsize and batch_size 0.59


def nearest(word: str, known: Iterable[str], similarity: float = 0.5) -> str | None:
    """The word of `known` most similar to `word`, ignoring case; None when none is similar."""
    by_lower = {str(name).lower(): str(name) for name in known}
    match = difflib.get_close_matches(str(word).lower(), list(by_lower), n=1, cutoff=similarity)
    return by_lower[match[0]] if match else None


def is_typing_error(word: str, known: Iterable[str]) -> bool:
    """Whether a word that is not known is so like one that is that it was meant to be that one."""
    return nearest(word, known, _TYPING_ERROR) is not None


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)`; the empty string when no known word is similar."""
    match = nearest(word, known)
    return f" (did you mean {match}?)" if match else ""


def unknown_key(where: str, key: str, known: Iterable[str]) -> ConfigError:
    """The error for an unknown key in section `where` (a dotted path, or a file's name)."""
    names = sorted({str(name) for name in known})
    hint = suggestion(key, names)
    listing = f"; known there: {', '.join(names)}" if not hint and len(names) <= 30 else ""
    return ConfigError(f"{where}: unknown key {key}{hint}{listing}")
