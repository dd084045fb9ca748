"""Checks that settings share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils.suggest import suggestion


def _whole(where: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError(f"{where}: expected a whole number from 1 or null, found {value!r}")


def _between(where: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low < value < high:
        limits = f"above {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
        raise ConfigError(f"{where}: expected a number {limits}, found {value!r}")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, (list, tuple)) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _thawed(part) for key, part in value.items()}
    return [_thawed(part) for part in value] if isinstance(value, (list, tuple)) else value


def _one_of(where: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        hint = suggestion(str(value), known)
        raise ConfigError(f"{where}: {value!r} is not supported{hint}; known: {', '.join(known)}")


def _positive(where: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{where}: expected a number above 0, found {value!r}")
