"""`manifest.json`: what a package is, what made it, and the hash of each of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from picoquant.errors import UserError
from picoquant.storage.files import sha256
from picoquant.targets.profiles import Target
from picoquant.utils.batching import DYNAMIC, MAX_BATCH

NAME = "manifest.json"
ONNX_BATCH = "onnx_batch"  # images a call of each ONNX file, where they are made for more than one


@dataclass(frozen=True)
class Facts:
    """What a manifest says of the run; all JSON-able.

    Attributes:
        accuracy: mAP (0 to 1) of each model.
        settings: of the run.
        board: mAP of the INT8 model as each target's NPU computes it (simulated), by the target's name.
    """

    accuracy: Mapping[str, float]
    settings: Mapping[str, Any]
    board: Mapping[str, float] = field(default_factory=dict)


def about_target(target: Target) -> dict[str, Any]:
    """The profile, without the long list of operators."""
    about = asdict(target)
    if about["paddle_lite"]:
        del about["paddle_lite"]["operators"]
    return about


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of each file but the manifest, by its path in the package."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in paths
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a package.

    Raises: `UserError` when the folder holds none.
    """
    path = Path(folder) / NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder} is no package: {NAME} is missing or cannot be read") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: package the model again") from error
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(
        isinstance(facts, dict) and isinstance(facts.get("sha256"), str) for facts in files.values()
    ):
        raise UserError(f"{path} lists no files with their hashes: package the model again")
    if not isinstance(manifest.get("target", {}), dict):
        raise UserError(f"{path} does not say what target it is for: package the model again")
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{path} is refused: {name!r} would lie outside the package")
    return manifest


def images_a_call(manifest: dict[str, Any], name: str) -> Any:
    """How many images an ONNX file of a package takes: 1 to `MAX_BATCH`, or `DYNAMIC`.

    Raises: `UserError` when the manifest says something else.
    """
    try:
        images = manifest[ONNX_BATCH][name]["images"] if ONNX_BATCH in manifest else 1
    except (KeyError, TypeError):
        images = None
    if images != DYNAMIC and not (type(images) is int and 1 <= images <= MAX_BATCH):
        raise UserError(f"{NAME} does not say how many images {name} takes: package the model again")
    return images


def backends_of(manifest: dict[str, Any]) -> tuple[str, ...]:
    """Names of the backends whose files the package's target wants, none in manifests from before there were any.

    Raises: `UserError` when the manifest holds something else.
    """
    names = manifest.get("target", {}).get("backends", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{NAME} does not say whose files the package holds: package the model again")
    return tuple(names)


def changed_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is not as the manifest says, a line each: files changed, missing or not listed."""
    wrong = []
    for name, facts in sorted(manifest["files"].items()):
        path = Path(folder) / name
        if path.is_symlink() or not path.is_file():
            wrong.append(f"missing: {name}")
        elif sha256(path) != facts["sha256"]:
            wrong.append(f"changed: {name}")
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_file() or path.is_symlink()) and name not in manifest["files"] and name != NAME:
            wrong.append(f"not listed: {name}")
    return wrong
