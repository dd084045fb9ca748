"""Checks that the settings share; each raises `ConfigError`, which names class and key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from picoquant.errors import ConfigError

ACTIVATIONS = ("hard_swish", "relu6", "leaky_relu", "relu")


def expect(settings: Any, name: str, correct: bool, what: str) -> None:
    """Raise `ConfigError` for field `name` unless `correct`; `what` describes the expected value."""
    if not correct:
        found = getattr(settings, name)
        raise ConfigError(f"{type(settings).__name__}.{name}: expected {what}, found {found!r}")


def is_number(value: Any) -> bool:
    """True for an int or float; a bool is not a number here."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def numbers(settings: Any, names: Iterable[str], low: float, high: float = float("inf")) -> None:
    """Require that fields `names` are numbers from `low` to `high`."""
    limits = f"a number from {low:g}" + (f" to {high:g}" if high != float("inf") else "")
    for name in names:
        value = getattr(settings, name)
        expect(settings, name, is_number(value) and low <= value <= high, limits)


def whole(settings: Any, names: Iterable[str], low: int = 1) -> None:
    """Require that fields `names` are whole numbers, at least `low`."""
    for name in names:
        value = getattr(settings, name)
        correct = isinstance(value, int) and not isinstance(value, bool) and value >= low
        expect(settings, name, correct, f"a whole number from {low}")


def flags(settings: Any) -> None:
    """Require that every field annotated `bool` is true or false."""
    for item in fields(settings):
        if item.type == "bool":
            value = getattr(settings, item.name)
            expect(settings, item.name, isinstance(value, bool), "true or false")


def choice(settings: Any, name: str, known: Iterable[Any]) -> None:
    """Require that field `name` is one of `known`."""
    known = tuple(known)
    what = "one of " + ", ".join("null" if value is None else str(value) for value in known)
    expect(settings, name, getattr(settings, name) in known, what)


def indices(settings: Any, name: str, low: int, high: int) -> None:
    """Require that field `name` is an increasing list of whole numbers from `low` to `high`.

    It is stored as a tuple; a single number counts as a list of one.
    """
    value = getattr(settings, name)
    value = (value,) if isinstance(value, int) else value
    correct = (
        isinstance(value, (list, tuple))
        and all(isinstance(item, int) and low <= item <= high for item in value)
        and list(value) == sorted(set(value))
        and len(value) > 0
    )
    expect(settings, name, correct, f"a growing list of whole numbers from {low} to {high}")
    object.__setattr__(settings, name, tuple(value))


def number_list(settings: Any, name: str, length: int | None = None) -> None:
    """Require that field `name` is a list of numbers from 0, `length` of them unless None.

    It is stored as a tuple.
    """
    value = getattr(settings, name)
    correct = isinstance(value, (list, tuple)) and all(is_number(item) and item >= 0 for item in value)
    correct = correct and len(value) in ((length,) if length else range(1, 1000))
    expect(settings, name, correct, f"a list of {length or 'some'} numbers from 0")
    object.__setattr__(settings, name, tuple(value))
