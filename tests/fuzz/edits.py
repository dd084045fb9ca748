"""Good documents made bad: a place in them, and what to put there."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

GONE = object()  # stands for taking the entry out
TWICE = object()  # stands for having it a second time

_TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", " ", "~nobody/a", "../../etc/passwd", "/dev/zero", "a\0b", "x" * 5000, "\ud800", "nan", "1e999",
         "__class__", "{}", "%s%n", "&a", "<b>", "\N{PILE OF POO}"]
    ),
)  # fmt: skip
_NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.sampled_from([2**31, 2**63, 2**64, -(2**70), 10**30, 10**400, 0, 100_000]),
    st.floats(),
)
_LEAVES = st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=5,
)
PLACES = st.lists(st.integers(0, 40), min_size=1, max_size=6)
EDITS = st.lists(st.tuples(PLACES, st.one_of(VALUES, st.just(GONE), st.just(TWICE))), min_size=1, max_size=3)
# Changes of bytes: cut, overwrite, take out, put in.
BYTE_EDITS = st.lists(
    st.tuples(st.sampled_from("corti"), st.integers(0, 1 << 20), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


def edited(document: Any, edits: list[tuple[list[int], Any]]) -> Any:
    """A copy of `document` with each edit made where its numbers lead, as far down as they go."""
    document = {"": copy.deepcopy(document)}
    for place, value in edits:
        parent, key = document, ""
        for number in place:
            inner = parent[key]
            if not isinstance(inner, (dict, list)) or not inner:
                break
            parent, key = (
                inner,
                list(inner)[number % len(inner)] if isinstance(inner, dict) else number % len(inner),
            )
        if value is GONE and parent is not document:
            del parent[key]
        elif value is TWICE and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif value is not GONE and value is not TWICE:
            parent[key] = copy.deepcopy(value)
        if "" not in document:
            document[""] = None
    return document[""]


def edited_bytes(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    """`data` with each change made, at a place counted modulo its length."""
    for kind, number, new in edits:
        place = number % (len(data) + 1)
        if kind == "c":
            data = data[:place]
        elif kind == "o":
            data = data[:place] + new + data[place + len(new) :]
        elif kind == "r":
            data = data[:place] + data[place + max(len(new), 1) :]
        elif kind == "t":
            data = data[:place] + data[place : place + 50] + data[place:]
        else:
            data = data[:place] + new + data[place:]
    return data


def as_json(value: Any) -> bytes:
    """JSON with NaN and lone surrogates, as bad writers make it."""
    return json.dumps(value).encode("utf-8", "surrogatepass")
