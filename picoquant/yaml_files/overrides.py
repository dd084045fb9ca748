"""`--set KEY.SUB=VALUE`: put values into a configuration, refusing keys that nobody reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils.suggest import unknown_key
from picoquant.yaml_files.load import parse_yaml

# A schema says which keys a mapping may have: a dict of key -> schema below it; None ends the
# checking (a plain value, or a mapping whose keys are free).
Schema = Mapping[str, Any]


def parse_override(text: str) -> tuple[list[str], Any]:
    """`A.B=VALUE` as its path and its value, read as YAML.

    Raises: `ConfigError` when there is no `=` or no key.
    """
    key, equals, value = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise ConfigError(f"--set {text}: write it as KEY=VALUE or KEY.SUB=VALUE")
    return path, parse_yaml(value, f"--set {key}") if value.strip() else None


def apply_overrides(document: dict[str, Any], texts: Sequence[str], schema: Schema) -> None:
    """Put each `KEY.SUB=VALUE` of `texts` into `document`, in order.

    Raises: `ConfigError` for a key that neither the schema nor the document knows.
    """
    for text in texts:
        path, value = parse_override(text)
        _put(document, path, value, schema, text)


def _put(document: dict[str, Any], path: list[str], value: Any, schema: Schema, text: str) -> None:
    here: Any = document
    level: Schema | None = schema
    for depth, key in enumerate(path):
        where = f"--set {text}" if depth == 0 else f"--set {'.'.join(path[:depth])}"
        last = depth == len(path) - 1
        if isinstance(here, list):
            here, level = _into_list(here, key, where, last, value), None
            continue
        if level is not None and key not in level and key not in here:
            raise unknown_key(where, key, set(level) | set(here))
        if last:
            here[key] = value
            return
        if not isinstance(here.get(key), (dict, list)):
            if here.get(key) is not None:
                raise ConfigError(f"{where}: {key} is a value ({here[key]}), it has no keys below it")
            here[key] = {}
        here = here[key]
        below = level.get(key) if level is not None else None
        level = below if isinstance(below, Mapping) else None


def _into_list(items: list[Any], key: str, where: str, last: bool, value: Any) -> Any:
    if not key.isdigit() or int(key) >= len(items):
        raise ConfigError(f"{where}: {key} is no position in a list of {len(items)} (count from 0)")
    if last:
        items[int(key)] = value
    return items[int(key)]


def check_keys(document: Mapping[str, Any], schema: Schema, where: str) -> None:
    """Refuse keys of a file that nobody reads.

    Raises: `ConfigError` naming the key, its section and the nearest known key.
    """
    for key, value in document.items():
        if key not in schema:
            raise unknown_key(where, str(key), schema)
        below = schema[key]
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            check_keys(value, below, f"{where}: {key}")
