"""What is recorded of files and documents: hashes, and values that hold on every machine.

An item is of one of two kinds. `bytes`: a SHA-256, compared only on the machine that `pins.json` is from, as sums of
floats differ between CPUs and library versions. `values`: compared everywhere, floats within a tolerance.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCORES = ("mAP", "fp32", "int8", "every_tensor_mAP")
# Of the run folder's own record: times, the machine, and what repeats the files' hashes.
_RUN_DROPPED = ("command", "seconds", "cpu_seconds", "cpus", "started", "files")
_MANIFEST_DROPPED = ("versions", "files")
# Times.
_MEASURED = ("latency_ms", "latency_p90_ms", "images_per_second", "seconds", "setup_seconds")
_COUNTED = ("expected",)  # detections above a score
_WHOLE_FOLDERS = ("board", "images")  # one hash for all files of such a folder of a package
_UNRECORDED = (".lock", "run.log", ".png", ".svg", ".tar.gz")


@dataclass
class Items:
    """What one scenario records."""

    bytes: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def document(self, name: str, found: Any, structure: bool = True, parted: bool = True) -> None:
        """A JSON document without times: its hash (with `parted` one a top-level key), and one of its structure."""
        found = without(found, _MEASURED)
        parts = found.items() if parted and isinstance(found, dict) else [("", found)]
        for key, value in parts:
            self.bytes[f"{name}#{key}" if key else name] = hashed(value)
        if structure:
            self.values[f"{name}#structure"] = hashed(structure_of(without(found, _COUNTED)))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"bytes": dict(sorted(self.bytes.items())), "values": dict(sorted(self.values.items()))}


def hashed(value: Any) -> str:
    """SHA-256 of a JSON document, of a text or of bytes."""
    if not isinstance(value, (bytes, str)):
        value = json.dumps(value, sort_keys=True)
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


def without(document: Any, keys: tuple[str, ...]) -> Any:
    """A copy of a document without some keys, at any depth."""
    if isinstance(document, dict):
        return {key: without(value, keys) for key, value in document.items() if key not in keys}
    return [without(value, keys) for value in document] if isinstance(document, list) else document


def structure_of(document: Any) -> Any:
    """A copy of a document in which floats and SHA-256 sums, which follow from floats, are the names of their types."""
    if isinstance(document, dict):
        return {key: structure_of(value) for key, value in document.items()}
    if isinstance(document, list):
        return [structure_of(value) for value in document]
    if isinstance(document, str) and re.fullmatch("[0-9a-f]{64}", document):
        return "sha256"
    return "float" if isinstance(document, float) else document


def of_run(items: Items, root: Path) -> None:
    """A run folder: the names in it, and what each file holds."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    items.values["names"] = sorted({_shown(path.relative_to(root)) for path in files})
    whole: dict[str, list[str]] = {}
    for path in files:
        name, shown = path.relative_to(root).as_posix(), _shown(path.relative_to(root))
        if shown != name:
            whole.setdefault(shown, []).append(f"{name} {hashed(path.read_bytes())}")
        elif path.name == "run.json":
            _of_record(items, json.loads(path.read_text()))
        elif path.name == "manifest.json":
            _of_manifest(items, name, json.loads(path.read_text()))
        elif path.name == "quantization.json":
            _of_quantization(items, name, json.loads(path.read_text()))
        elif not name.endswith(_UNRECORDED):
            items.bytes[name] = hashed(path.read_bytes())
        if path.suffix == ".onnx":
            items.values[f"{name}#operators"] = onnx_operators(path)
    items.bytes.update({name: hashed("\n".join(lines)) for name, lines in whole.items()})


def onnx_operators(path: Path) -> dict[str, int]:
    """How many of each type an ONNX file has."""
    import onnx

    return dict(sorted(Counter(node.op_type for node in onnx.load(str(path)).graph.node).items()))


def _shown(path: Path) -> str:
    """A file's name; of a folder that is recorded as one, the folder's."""
    for depth, part in enumerate(path.parts[:-1]):
        if depth and part in _WHOLE_FOLDERS:
            return "/".join(path.parts[: depth + 1]) + "/"
    return path.as_posix()


def _of_record(items: Items, record: dict[str, Any]) -> None:
    for stage, entry in record["stages"].items():
        items.document(f"run.json/{stage}", without(entry, _RUN_DROPPED), structure=False)
        items.values[f"run.json/{stage}#keys"] = sorted(entry)
        for name, value in (entry.get("metrics") or {}).items():
            score = value.get("mAP") if isinstance(value, dict) else value
            if name in SCORES and isinstance(score, float):
                items.values[f"run.json/{stage}#{name} mAP"] = score


def _of_quantization(items: Items, name: str, described: dict[str, Any]) -> None:
    searched = "max_drop" in described.get("mixed_precision", {})  # then mAPs decide which layers are INT8
    items.document(name, described, structure=not searched)


def _of_manifest(items: Items, name: str, manifest: dict[str, Any]) -> None:
    items.document(name, without(manifest, _MANIFEST_DROPPED))
    items.values[f"{name}#keys"] = sorted(manifest)
    items.values[f"{name}#files"] = len(manifest["files"])
