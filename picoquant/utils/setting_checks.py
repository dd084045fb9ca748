"""Checks that settings share; each raises `ConfigError`, which starts with the key (`where`, `name`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils.suggest import suggestion


def whole_or_none(where: str, value: Any) -> None:
    """Require a whole number from 1, or None."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError(f"{where}: expected a whole number from 1 or null, found {value!r}")


def between(where: str, value: Any, low: float, high: float) -> None:
    """Require a number above `low` and below `high`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low < value < high:
        limits = f"above {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
        raise ConfigError(f"{where}: expected a number {limits}, found {value!r}")


def listed(value: Any) -> list[Any]:
    """A list or tuple as a list; any other value as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def frozen(value: Any) -> Any:
    """`value` with its lists, at every depth, as tuples, for the fields of frozen settings."""
    return tuple(frozen(part) for part in value) if isinstance(value, (list, tuple)) else value


def thawed(value: Any) -> Any:
    """`value` with its tuples, at every depth, as lists and its mappings as dicts, for YAML and JSON."""
    if isinstance(value, Mapping):
        return {key: thawed(part) for key, part in value.items()}
    return [thawed(part) for part in value] if isinstance(value, (list, tuple)) else value


def one_of(where: str, value: Any, known: tuple[str, ...]) -> None:
    """Require one of `known`; the message suggests the nearest."""
    if value not in known:
        hint = suggestion(str(value), known)
        raise ConfigError(f"{where}: {value!r} is not supported{hint}; known: {', '.join(known)}")


def positive(where: str, value: Any) -> None:
    """Require a finite number above 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{where}: expected a number above 0, found {value!r}")


def whole(name: str, value: Any, least: int) -> int:
    """Require a whole number of at least `least`; returned as int."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def number(name: str, value: Any) -> float:
    """Require a finite number; returned as float."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a number, not {value!r}")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """Require a number from 0 to 1; returned as float."""
    result = number(name, value)
    if not 0 <= result <= 1:
        raise ConfigError(f"{name} must lie between 0 and 1, not {value!r}")
    return result


def flag(name: str, value: Any) -> bool:
    """Require true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, not {value!r}")
    return value


def flags_of(settings: type, values: Mapping[str, Any], where: str) -> None:
    """Require true or false for each value that is a flag of a settings dataclass, and neither for a number.

    To Python any text is true, and true is 1.

    Args:
        settings: the dataclass.
        values: by the names of its fields.
        where: the section, for messages.
    """
    for field in fields(settings):
        if field.name not in values:
            continue
        value, kind = values[field.name], str(field.type)
        if field.type in (bool, "bool"):
            flag(f"{where}.{field.name}", value)
        elif isinstance(value, bool) and kind.startswith(("int", "float")):
            raise ConfigError(f"{where}.{field.name} must be a number, not {value!r}")


def numbers(name: str, value: Any, count: int | None = None) -> tuple[float, ...]:
    """Require a list of finite numbers, `count` of them unless None; returned as a tuple of floats."""
    if not isinstance(value, (list, tuple)) or (count is not None and len(value) != count):
        expected = "a list of" if count is None else f"a list of {count}"
        raise ConfigError(f"{name} must be {expected} numbers, not {value!r}")
    return tuple(number(name, item) for item in value)


def span(name: str, value: Any) -> tuple[float, float]:
    """Require `[lowest, highest]`; returned as a tuple of floats."""
    low, high = numbers(name, value, 2)
    if low > high:
        raise ConfigError(f"{name} must be [lowest, highest], not {value!r}")
    return low, high


def size(name: str, value: Any) -> tuple[int, int]:
    """Require `[height, width]` in pixels, or one number for a square; returned as `(height, width)`."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return whole(name, value[0], 1), whole(name, value[1], 1)
    if isinstance(value, (list, tuple)):
        raise ConfigError(f"{name} must be a number or [height, width], not {value!r}")
    side = whole(name, value, 1)
    return side, side


def choice(name: str, value: Any, known: tuple) -> Any:
    """Require one of `known`; returned as it is."""
    if isinstance(value, bool) or value not in known:
        listing = ", ".join(str(item) for item in known)
        raise ConfigError(f"{name} must be one of {listing}, not {value!r}")
    return value
