"""Ids and marks of an annotation file: COCO's whole numbers, and the texts, 1.0 and mixtures that people have."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

_WHOLE = re.compile(r"\s*([+-]?\d{1,18})(?:\.0*)?\s*")
_LIMIT = 2**63  # ids become int64


class AmbiguousIdError(ValueError):
    """An id that several entries may mean."""


@dataclass(frozen=True)
class IdTable:
    """The ids that a list of a file gives its entries.

    Attributes:
        numbers: a whole number for each entry: its own id where every id stands for another whole number
            (7, 7.0 or "7"), or else its place in the list, from 1.
        own: number -> the file's id, where that is not the same whole number.
        whole: the file's whole numbers -> number.
    """

    numbers: tuple[int, ...]
    own: dict[int, Any]
    whole: dict[int, int]
    _ids: Sequence[Any] = field(repr=False)

    @classmethod
    def of(cls, ids: Sequence[Any]) -> IdTable:
        """Number the entries with these ids, which `is_id` takes and of which no two are the same."""
        plain = ids if set(map(type, ids)) == {int} else [_plain(value) for value in ids]
        numeric = all(isinstance(value, int) and -_LIMIT <= value < _LIMIT for value in plain)
        numbers = tuple(plain if numeric and len(set(plain)) == len(plain) else range(1, len(plain) + 1))
        own = {n: value for n, value in zip(numbers, ids) if type(value) is not int or value != n}
        whole = {value: number for number, value in zip(numbers, ids) if type(value) is int}
        return cls(numbers, own, whole, ids)

    @cached_property
    def _exact(self) -> dict[tuple[type, Any], int]:
        return {(type(value), value): number for number, value in zip(self.numbers, self._ids)}

    @cached_property
    def _alike(self) -> dict[Any, tuple[int, ...]]:
        alike: dict[Any, tuple[int, ...]] = {}
        for number, value in zip(self.numbers, map(_plain, self._ids)):
            alike[value] = (*alike.get(value, ()), number)
        return alike

    def find(self, value: Any) -> int | None:
        """The number of the entry that an id means: the same id, or the only one that is alike (7, 7.0, "7").

        Raises: `AmbiguousIdError` when several are alike and none is the same.
        """
        if not is_id(value):
            return None
        found = self._exact.get((type(value), value))
        if found is None:
            alike = self._alike.get(_plain(value), ())
            if len(alike) > 1:
                raise AmbiguousIdError(value)
            found = alike[0] if alike else None
        return found


def is_id(value: Any) -> bool:
    """Whether a value can be an id: a whole number, as 1.0 too, or a text that is not empty."""
    if isinstance(value, float):
        return math.isfinite(value) and value == int(value)
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and value != ""
    )


def kind_of(value: Any) -> str:
    """What an id is, for messages."""
    names = {bool: "true or false", int: "a whole number", float: "a number with a point", str: "a text"}
    names.update({type(None): "null", list: "a list", dict: "a mapping"})
    return names.get(type(value), type(value).__name__)


_MARKS = {"0": False, "false": False, "no": False, "": False, "1": True, "true": True, "yes": True}


def mark_of(value: Any) -> bool | None:
    """What a mark such as `iscrowd` says: 0 or 1, true or false, as texts, too; None for anything else.

    An absent one, null, is false.
    """
    if isinstance(value, str):
        return _MARKS.get(value.strip().lower())
    return bool(value) if value is None or value in (0, 1) else None


def _plain(value: Any) -> Any:
    """7 for 7, 7.0, "7" and "7.0"; another text without the spaces around it."""
    if isinstance(value, str):
        match = _WHOLE.fullmatch(value)
        return int(match.group(1)) if match else value.strip()
    return int(value)
