"""What a YOLO folder says of itself: data.yaml, obj.data, classes.txt, notes.json.

Sources: ultralytics' dataset format (docs.ultralytics.com/datasets/detect), CVAT's formats "YOLO" and "Ultralytics
YOLO" (docs.cvat.ai), Label Studio's export "YOLO", Roboflow's "YOLO Darknet".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from picoquant.data.formats.files import read_lines, read_text
from picoquant.errors import DataError

NAME_FILES = (
    "data.yaml",
    "*.yaml with names",
    "obj.data",
    "obj.names",
    "classes.txt",
    "notes.json",
    "_darknet.labels",
)
_ALIASES = {"valid": "val", "validation": "val", "train": "train", "val": "val", "test": "test"}
_MOST_BYTES = 1 << 20  # of a data.yaml; LVIS's, with 1,203 names, has 40 KiB
_DEEPEST = 20


@dataclass(frozen=True)
class Description:
    """What one file says.

    Attributes:
        file: which.
        names: of the classes, in their order.
        base: the folder `path` names, for data.yaml; else None.
        parts: `train`, `val`, `test` -> paths of image folders or of lists of images, as written.
        keypoints: how many numbers of key points stand behind each box; 0: none.
    """

    file: Path
    names: tuple[str, ...]
    base: str | None = None
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keypoints: int = 0


def describe(root: Path, named: Path | None = None) -> Description | None:
    """What describes the YOLO data set in a folder; None where nothing does.

    Args:
        root: the folder.
        named: its data.yaml, where that is known.

    Raises: `DataError` for a file that cannot be used, and for several that might be meant.
    """
    if named is not None:
        return _data_yaml(named)
    found = {path.name.lower(): path for path in sorted(root.glob("*")) if path.is_file()}
    for name in ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml"):
        if name in found:
            return _data_yaml(found[name])
    candidates = [
        path for name, path in found.items() if name.endswith((".yaml", ".yml")) and _has_names(path)
    ]
    if len(candidates) > 1:
        names = ", ".join(path.name for path in candidates)
        raise DataError(
            f"{root} has several files with class names ({names}): name one as anno_path, or as data.yaml"
        )
    if candidates:
        return _data_yaml(candidates[0])
    if "obj.data" in found:
        return _obj_data(found["obj.data"])
    for name in ("obj.names", "classes.txt"):
        if name in found:
            return Description(found[name], _listed_names(found[name]))
    if "notes.json" in found and (root / "labels").is_dir():
        return Description(found["notes.json"], _notes(found["notes.json"]))
    darknet = sorted(root.glob("*/_darknet.labels"))
    if darknet:
        names = {_listed_names(path) for path in darknet}
        if len(names) > 1:
            raise DataError(
                f"the files _darknet.labels below {root} name other classes; give all parts the same"
            )
        return Description(darknet[0], names.pop())
    inside = root / "labels" / "classes.txt"
    return Description(inside, _listed_names(inside)) if inside.is_file() else None


def _has_names(path: Path) -> bool:
    try:
        content = _mapping(path)
    except DataError:
        return False
    return "names" in content and any(key.lower() in _ALIASES for key in content)


def _data_yaml(path: Path) -> Description:
    content = _mapping(path)
    parts = {}
    for key, value in content.items():
        split = _ALIASES.get(key.lower())
        if split is None:
            continue
        entries = value if isinstance(value, list) else [value]
        kept = tuple(entry for entry in entries if isinstance(entry, str) and entry not in ("", "~", "null"))
        if value not in (None, "", "~", "null") and len(kept) < len(entries):
            raise DataError(
                f"{path}: {key} must be a folder, a list of images, or several of them, not {value!r}"
            )
        if kept and split in parts:
            raise DataError(f"{path} names the part {split} twice; leave one out")
        if kept:
            parts[split] = kept
    base = content.get("path")
    if base is not None and not isinstance(base, str):
        raise DataError(f"{path}: path must be a folder, not {base!r}")
    return Description(path, _yaml_names(content, path), base or None, parts, _keypoints(content, path))


def _mapping(path: Path) -> dict[str, Any]:
    """A file's keys and values; every value a text, for names such as `on` and `007` are no truth and no number."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} is too large to describe a data set; its keys are names, train and val")
        node = yaml.compose(read_text(path, "the data set"), yaml.SafeLoader)
        content = None if node is None else _plain(node, path, {})
    except (yaml.YAMLError, OSError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read as YAML ({said})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} describes no data set: its keys must be names, train and val")
    return content


def _plain(node: yaml.Node, path: Path, known: dict[int, Any], depth: int = 0) -> Any:
    """What a node holds; `known` keeps nodes that aliases repeat."""
    if depth > _DEEPEST:
        raise DataError(f"{path} is nested too deep to describe a data set")
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, yaml.ScalarNode):
        found: Any = None if node.value in ("", "~") and node.style is None else node.value.strip()
    elif isinstance(node, yaml.SequenceNode):
        found = [_plain(child, path, known, depth + 1) for child in node.value]
    else:
        found = {}
        for key, value in node.value:
            name = str(key.value).strip()
            if name in found:
                raise DataError(f"{path}, line {key.start_mark.line + 1}: {name} is there twice")
            found[name] = _plain(value, path, known, depth + 1)
    known[id(node)] = found
    return found


def _yaml_names(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    number = int(count) if isinstance(count, str) and count.isdigit() else None
    if count is not None and not number:
        raise DataError(f"{path}: nc must be the number of classes, not {count!r}")
    if isinstance(names, dict):
        keys = [int(key) if key.isdigit() else -1 for key in names]
        if sorted(keys) != list(range(len(keys))):
            raise DataError(
                f"{path}: names must have the keys 0 to {max(len(keys) - 1, 0)}, each once, not {', '.join(names)}"
            )
        names = [names[key] for _, key in sorted(zip(keys, names))]
    if names is None and number:
        names = [f"class_{label}" for label in range(number)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: names must list the classes, not {names!r}")
    if number is not None and number != len(names):
        raise DataError(f"{path}: nc is {number}, but names has {len(names)} classes; correct either")
    return _checked(names, path)


def _keypoints(content: Mapping[str, Any], path: Path) -> int:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(str(side).isdigit() for side in shape):
        raise DataError(f"{path}: kpt_shape must be [points, numbers of each], not {shape!r}")
    return int(shape[0]) * int(shape[1])


def _checked(names: list[str], path: Path) -> tuple[str, ...]:
    if not names or not all(names) or len(set(names)) < len(names):
        raise DataError(
            f"{path} names no class, one without a name, or one twice; each class needs a name of its own"
        )
    return tuple(names)


def _listed_names(path: Path) -> tuple[str, ...]:
    return _checked(read_lines(path, "the data set"), path)


def _obj_data(path: Path) -> Description:
    """Darknet's `key = value` lines."""
    values = dict(
        (part.strip() for part in line.split("=", 1))
        for line in read_lines(path, "the data set")
        if "=" in line
    )
    named = [
        path.parent / name for name in ("obj.names", Path(values.get("names", "").replace("\\", "/")).name)
    ]
    names = next((file for file in named if file.is_file()), None)
    if names is None:
        raise DataError(f"{path}: names is {values.get('names')!r}, and there is no obj.names beside it")
    found = _listed_names(names)
    if values.get("classes", str(len(found))) != str(len(found)):
        raise DataError(
            f"{path}: classes is {values['classes']}, but {names} has {len(found)}; correct either"
        )
    parts = {
        _ALIASES[key.lower()]: (value,) for key, value in values.items() if key.lower() in _ALIASES and value
    }
    return Description(path, found, None, parts)


def _notes(path: Path) -> tuple[str, ...]:
    """Label Studio's categories, by their ids."""
    try:
        entries = json.loads(read_text(path, "the data set"))["categories"]
        names = {int(entry["id"]): str(entry["name"]) for entry in entries}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f"{path} has no list categories with ids and names, as Label Studio writes it"
        ) from error
    if sorted(names) != list(range(len(entries))):
        raise DataError(f"{path}: categories must have the ids 0 to {max(len(entries) - 1, 0)}, each once")
    return _checked([names[label] for label in sorted(names)], path)
