"""Load PaddleDetection-style YAML safely, with `_BASE_` files and `!Tags`; no file can run code.

A tagged mapping (`!COCODataSet {...}`) becomes a `Tagged` dict that remembers its tag, so that the
resolved configuration can be written and read again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from picoquant.errors import ConfigError, reason_of
from picoquant.yaml_files.bases import base_files
from picoquant.yaml_files.locate import find

# PaddleDetection's largest configuration, resolved, has 8 KiB and 1,000 nodes; PyYAML reads 50,000 a second.
_MAX_BYTES = 256 << 10
_MAX_SCALAR = 20_000  # characters; parsing a long number takes quadratic time
_MAX_EVENTS = 30_000
_MAX_NODES = 60_000  # with aliases expanded: rejects files whose aliases multiply
_MAX_DEPTH = 60
_MAX_FILES = 50  # including bases: n files that each name the next one twice are 2^n reads


class Tagged(dict):
    """A mapping with a `!Tag`, for example `!COCODataSet {...}`; `tag` is without the exclamation mark."""

    def __init__(self, tag: str, values: dict | None = None) -> None:
        super().__init__(values or {})
        self.tag = tag


class _UnboundedError(yaml.YAMLError):
    """The document has more parts, or a longer one, than any configuration."""


class _Loader(yaml.SafeLoader):
    """Safe, bounded, and reads 1e-5 as a number (YAML 1.1 requires a dot before the e)."""

    events = 0

    def get_event(self) -> yaml.Event:
        """The next event of the document.

        Raises: `_UnboundedError` for too many events, or too long a scalar.
        """
        event: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]  # its stubs leave it out
        self.events += 1
        if self.events > _MAX_EVENTS or len(getattr(event, "value", None) or "") > _MAX_SCALAR:
            raise _UnboundedError("it holds more than any configuration")
        return event


class _Dumper(yaml.SafeDumper):
    """Writes `Tagged` mappings with their tags, and never anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """True: a value that occurs twice is written twice."""
        return True


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _construct_tagged(loader: _Loader, suffix: str, node: yaml.Node) -> Tagged:
    if isinstance(node, yaml.MappingNode):
        return Tagged(suffix, loader.construct_mapping(node, deep=True))
    if isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~"):
        return Tagged(suffix)
    raise yaml.constructor.ConstructorError(None, None, f"!{suffix} takes a mapping", node.start_mark)


_Loader.add_multi_constructor("!", _construct_tagged)
_Dumper.add_representer(Tagged, lambda dumper, value: dumper.represent_mapping(f"!{value.tag}", dict(value)))


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document; an empty one is None.

    Args:
        text: the document.
        where: file, or other origin of the text, for messages.

    Raises: `ConfigError` with `where` and the line when it is not valid YAML or exceeds the bounds above.
    """
    if len(text) > _MAX_BYTES:
        raise ConfigError(f"{where}: larger than {_MAX_BYTES >> 10} KiB, so no configuration")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _require_bounded(node, where)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or _short(error)
        raise ConfigError(f"{where}{line}: not valid YAML: {problem[:200]}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: not usable as YAML: it is nested too deep") from error
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        # what PyYAML raises for malformed numbers, dates and unhashable keys
        raise ConfigError(
            f"{where}: not usable as YAML: a number, date or key in it is malformed{reason_of(error)}"
        ) from error
    finally:
        if loader is not None:
            loader.dispose()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _require_bounded(root: yaml.Node, where: str) -> None:
    """Count the nodes with aliases expanded; raise at the limit, since aliases can multiply or recur."""
    count, stack = 0, [(root, 0)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > _MAX_NODES or depth > _MAX_DEPTH:
            raise ConfigError(f"{where}: its aliases or nesting grow without bound")
        if isinstance(node, yaml.SequenceNode):
            stack += [(child, depth + 1) for child in node.value]
        elif isinstance(node, yaml.MappingNode):
            stack += [(child, depth + 1) for pair in node.value for child in pair]


def dump_yaml(value: Any) -> str:
    """YAML text that `parse_yaml` reads back as the same value; keys keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def load_mapping(path: Path) -> dict[str, Any]:
    """Read one YAML file whose top level is a mapping; `_BASE_` is not followed.

    Raises: `ConfigError` when it is missing, unreadable, not valid YAML or not a mapping.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES or not path.is_file():
            raise ConfigError(f"{path}: no file, or larger than {_MAX_BYTES >> 10} KiB, so no configuration")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"no such file: {path}") from error
    except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise ConfigError(f"{path}: cannot be read{reason_of(error)}") from error
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level, found {type(value).__name__}")
    return value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` with the values of `over`: mappings are merged key by key, all else is replaced.

    A tagged mapping in `over` replaces the value in `base`; so does one with a `type` where `base` has a tagged one.
    """
    merged = Tagged(base.tag, base) if isinstance(base, Tagged) else dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not isinstance(value, Tagged):
            other = isinstance(old, Tagged) and "type" in value
            value = value if other else merge(old, value)
        merged[key] = value
    return merged


def load_with_bases(
    path: Path,
    layers: list[dict[str, Any]] | None = None,
    _above: tuple[Path, ...] = (),
    _read: list[Path] | None = None,
) -> dict[str, Any]:
    """A PaddleDetection file merged with its `_BASE_` files; its own values override theirs.

    A base that is not beside the file is read from picoquant's own `configs/` (see `bases`), so that a
    single PaddleDetection file can be used without the folder it came from.

    Args:
        path: the file.
        layers: what each file says itself is added here, a base before what stands on it.
        _above: only for the recursion: the files that have `path` as a base.
        _read: only for the recursion: all files read so far.

    Raises: `ConfigError` when a file or base is missing or invalid, the bases form a circle, or there are too
        many of them.
    """
    path = Path(path).resolve()
    if path in _above:
        circle = " -> ".join(p.name for p in (*_above[_above.index(path) :], path))
        raise ConfigError(f"{path}: _BASE_ goes round in a circle: {circle}")
    read = [] if _read is None else _read
    read.append(path)
    if len(read) > _MAX_FILES:
        raise ConfigError(f"{path}: with its _BASE_ files there are more than {_MAX_FILES} to read")
    own = load_mapping(path)
    bases = own.pop("_BASE_", None) or []
    names = [bases] if isinstance(bases, str) else bases
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{path}: _BASE_ must be a list of files, not {str(bases)[:80]}")
    merged: dict[str, Any] = {}
    for base in base_files(path, names):
        merged = merge(merged, load_with_bases(base, layers, (*_above, path), read))
    if layers is not None:
        layers.append(own)
    return merge(merged, own)


def load_detection_config(name: str) -> dict[str, Any]:
    """A PaddleDetection configuration by path or shipped name, with its bases merged.

    Raises: `ConfigError` when there is none, and as `load_with_bases`.
    """
    return load_with_bases(find(("configs",), str(name)))
