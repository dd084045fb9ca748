"""`--set KEY.SUB=VALUE`: set values of a configuration; unknown keys are rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils.suggest import unknown_key
from picoquant.yaml_files.load import parse_yaml

# A schema defines the keys that a mapping may have: a dict of key -> schema of its value. None: the value is
# not checked (a plain value, or a mapping with free keys).
Schema = Mapping[str, Any]


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `A.B=VALUE` into the path of its key and its value, which is parsed as YAML.

    Raises: `ConfigError` when there is no `=`, a part of the key is empty or the value is not valid YAML.
    """
    key, equals, value = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise ConfigError(f"--set {text}: write it as KEY=VALUE or KEY.SUB=VALUE")
    return path, parse_yaml(value, f"--set {key}") if value.strip() else None


def apply_overrides(document: dict[str, Any], texts: Sequence[str], schema: Schema) -> None:
    """Set each `KEY.SUB=VALUE` of `texts` in `document`, in order.

    Raises: `ConfigError` for a key that is neither in the schema nor in the document.
    """
    for text in texts:
        path, value = parse_override(text)
        _set_value(document, path, value, schema, text)


def _set_value(document: dict[str, Any], path: list[str], value: Any, schema: Schema, text: str) -> None:
    """Set the value at `path`, creating mappings on the way; `text` is for messages."""
    current: Any = document
    level: Schema | None = schema
    for depth, key in enumerate(path):
        where = f"--set {text}" if depth == 0 else f"--set {'.'.join(path[:depth])}"
        last = depth == len(path) - 1
        if isinstance(current, list):
            current, level = _list_item(current, key, where, last, value), None
            continue
        if level is not None and key not in level and key not in current:
            raise unknown_key(where, key, set(level) | set(current))
        if last:
            current[key] = value
            return
        if not isinstance(current.get(key), (dict, list)):
            if current.get(key) is not None:
                raise ConfigError(f"{where}: {key} is a value ({current[key]}), it has no keys below it")
            current[key] = {}
        current = current[key]
        below = level.get(key) if level is not None else None
        level = below if isinstance(below, Mapping) else None


def _list_item(items: list[Any], key: str, where: str, last: bool, value: Any) -> Any:
    """The item at position `key` of a list; where `last`, it is set to `value` first."""
    if not key.isdigit() or int(key) >= len(items):
        raise ConfigError(f"{where}: {key} is no position in a list of {len(items)} (count from 0)")
    if last:
        items[int(key)] = value
    return items[int(key)]


def check_keys(document: Mapping[str, Any], schema: Schema, where: str) -> None:
    """Reject unknown keys of a file.

    Raises: `ConfigError` naming the key, its section and the nearest known key.
    """
    for key, value in document.items():
        if key not in schema:
            raise unknown_key(where, str(key), schema)
        below = schema[key]
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            check_keys(value, below, f"{where}: {key}")
