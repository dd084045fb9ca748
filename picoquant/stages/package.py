"""Stage `package`: INT8 model -> a folder for each NPU target, with everything a board needs."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from picoquant.files import sha256
from picoquant.pipeline.stage import Context, Stage
from picoquant.stages.exported import int8_model

LOG = logging.getLogger("picoquant")


def targets_of(context: Context) -> list[Any]:
    """The profiles to package for, as `picoquant.packaging.targets.Target`.

    Raises: `ConfigError` for an unknown target, listing the known ones.
    """
    from picoquant.packaging.targets import load_target

    return [load_target(name) for name in context.recipe.targets]


def _opt(context: Context) -> Any:
    """Paddle Lite's opt, looked for once.

    Raises: `ToolError` saying how to get it.
    """
    from picoquant.toolchain.lite import find_opt

    if "opt" not in context.loaded:
        context.loaded["opt"] = find_opt(context.opt)
    return context.loaded["opt"]


def _inputs(context: Context) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "files": _model_files(context),
        "targets": {target.name: asdict(target) for target in targets_of(context)},
        "opt": _opt(context).version,
        "mAP": _accuracy(context),
    }


def _model_files(context: Context) -> dict[str, str]:
    """Hash of every file of the INT8 model, by name."""
    folder = int8_model(context).path
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".csv"
    }


def _accuracy(context: Context) -> dict[str, float]:
    """mAP of each model, 0 to 1, as the run's evaluation measured it; empty when it did not."""
    metrics = context.run.record("evaluate").get("metrics", {})
    return {name: values["mAP"] for name, values in metrics.items()}


def _work(context: Context, out: Path, keep: Path) -> dict[str, Any]:
    from picoquant.packaging.package import package

    opt = _opt(context)
    folder = int8_model(context)
    made_with = context.run.record("quantize").get("settings", {})
    sizes = {}
    for target in targets_of(context):
        result = package(folder, target, out, opt, _accuracy(context), made_with)
        sizes[target.name] = {"nb_bytes": result.nb_bytes, "onnx_bytes": result.onnx_bytes}
    _keep_other_targets(context, out)
    return {"targets": sizes}


def _keep_other_targets(context: Context, out: Path) -> None:
    """Take over the packages of targets not asked for now, when they hold the same model."""
    done = context.run.folder(STAGE.name)
    before = context.run.record(STAGE.name).get("settings", {}).get("files")
    now = _model_files(context)
    for folder in sorted(done.iterdir()) if done.is_dir() else []:
        if not folder.is_dir() or (out / folder.name).exists():
            continue
        if before == now:
            shutil.copytree(folder, out / folder.name)
        else:
            LOG.info("package: %s held another model and is dropped; package it again", folder)


STAGE = Stage("package", "INT8 model -> a package for each target", lambda context: None, _inputs, _work)
