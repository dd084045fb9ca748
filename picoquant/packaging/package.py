"""The package of one target: everything a board needs, and proof of what it is."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import picoquant
from picoquant.config.yaml_files import dump_yaml
from picoquant.export.infer_config import write_infer_config
from picoquant.export.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.export.program import program_facts
from picoquant.files import disk_errors, recover_folder, replace_folder, sha256, write_json, write_text
from picoquant.packaging.agreement import compare, sample_image
from picoquant.packaging.lite_model import make_nb
from picoquant.packaging.onnx_float import OPSET
from picoquant.packaging.onnx_int8 import make_onnx, write_onnx
from picoquant.packaging.preprocess import description
from picoquant.packaging.program_edit import batch_of_one, read_params, write_program
from picoquant.packaging.quantised import QuantizedProgram, read_quantised
from picoquant.packaging.targets import Target
from picoquant.toolchain.opt_tool import OptTool

LOG = logging.getLogger("picoquant")

NB, ONNX, PADDLE = "model.nb", "model_int8.onnx", "paddle"
ONNX_VARIANTS = {"boxes": "model_int8_boxes.onnx", "detections": "model_int8_detections.onnx"}
_TOOLS = ("paddlepaddle", "paddlepaddle-gpu", "paddleslim", "paddle2onnx", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class PackageResult:
    """What was made.

    Attributes:
        folder: the package.
        files: its files, relative, sorted; `manifest.json` holds the hash of every other one.
        nb_bytes, onnx_bytes: sizes of the models.
        agreement: how far the ONNX model is from the Paddle model, see `agreement.compare`.
    """

    folder: Path
    files: tuple[str, ...]
    nb_bytes: int
    onnx_bytes: int
    agreement: dict[str, Any]


def package(
    model: ModelFolder,
    target: Target,
    out_dir: Path,
    opt: OptTool,
    accuracy: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    sample: np.ndarray | None = None,
) -> PackageResult:
    """Package an INT8 model for a target; `out_dir/<target>` appears whole or not at all.

    The same model, target and tools give the same bytes.

    Args:
        model: an INT8 Paddle model in Paddle Lite's form.
        target: what to package for.
        out_dir: folder of all packages.
        opt: Paddle Lite's opt, see `toolchain.lite.find_opt`.
        accuracy: mAP (0 to 1) of each model, for the manifest.
        settings: of the run, for the manifest; JSON-able.
        sample: `[height, width, 3]` uint8 RGB of the input's size, to compare Paddle and ONNX on; by
            default a picture made from a seed.

    Raises: `WeightsError` for a float model, `ToolError` when opt, paddle2onnx or ONNX Runtime refuse it.
    """
    LOG.info("package %s: reading %s", target.name, model.path)
    program = batch_of_one(model.model, model.config.input_size)
    quantised = read_quantised(program, read_params(program, model.params), model.model)
    version = opt.version
    final = Path(out_dir) / target.name
    with disk_errors(final):
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        recover_folder(final)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=out_dir) as scratch:
            folder = Path(scratch) / target.name
            (folder / PADDLE).mkdir(parents=True)
            agreement = _write_models(folder, model, program, quantised, target, opt, sample)
            _write_texts(folder, model, target)
            manifest = _manifest(model, target, version, quantised, agreement)
            manifest.update(mAP=dict(accuracy or {}), settings=dict(settings or {}))
            manifest["files"] = _files(folder)
            write_json(folder / "manifest.json", manifest)
            replace_folder(folder, final)
    LOG.info("package %s: done, %s", target.name, final)
    return PackageResult(
        final,
        tuple(sorted([*manifest["files"], "manifest.json"])),
        manifest["files"][NB]["bytes"],
        manifest["files"][ONNX]["bytes"],
        agreement,
    )


def _write_models(
    folder: Path,
    model: ModelFolder,
    program: Any,
    quantised: QuantizedProgram,
    target: Target,
    opt: OptTool,
    sample: np.ndarray | None,
) -> dict[str, Any]:
    """All three forms of the model; returns how well ONNX and Paddle agree."""
    from picoquant.packaging.onnx_outputs import with_outputs

    write_program(program, folder / PADDLE / MODEL)
    shutil.copyfile(model.params, folder / PADDLE / PARAMS)
    write_infer_config(model.config, folder / PADDLE)
    LOG.info("package %s: %s by opt %s", target.name, NB, opt.version)
    make_nb(program, model.params, folder / NB, target, opt)
    LOG.info("package %s: %s by paddle2onnx", target.name, ONNX)
    onnx_model = make_onnx(quantised, model.params)
    write_onnx(onnx_model, folder / ONNX)
    shipped = ModelFolder.open(folder / PADDLE)
    kind = _description(shipped)["output"]["kind"]
    for variant, name in ONNX_VARIANTS.items() if kind == "raw" else ():
        write_onnx(with_outputs(onnx_model, variant, model.config), folder / name)
    LOG.info("package %s: comparing ONNX Runtime with Paddle", target.name)
    image = sample_image(*model.config.input_size) if sample is None else sample
    return compare(shipped, folder / ONNX, kind, image)


def _description(shipped: ModelFolder) -> dict[str, Any]:
    facts = program_facts(shipped.model)
    return description(shipped.config, facts.inputs, facts.outputs)


def _write_texts(folder: Path, model: ModelFolder, target: Target) -> None:
    labels = (" ".join(label.split()) for label in model.config.labels)
    write_text(folder / "labels.txt", "".join(f"{label}\n" for label in labels))
    shipped = replace(model, path=folder / PADDLE, model=folder / PADDLE / MODEL)
    write_text(folder / "preprocess.yml", dump_yaml(_description(shipped)))
    variables = "".join(f"export {key}='{_quoted(text)}'\n" for key, text in target.environment.items())
    write_text(folder / "environment.sh", f"# Source this on the board before the program.\n{variables}")


def _quoted(text: str) -> str:
    """For between single quotes in a shell."""
    return text.replace("'", "'\\''")


def _manifest(
    model: ModelFolder,
    target: Target,
    opt_version: str,
    quantised: QuantizedProgram,
    agreement: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "target": asdict(target),
        "model": {
            "input_size": list(model.config.input_size),
            "batch": 1,
            "labels": list(model.config.labels),
            "quantized_operators": len(quantised.operators),
            "weights": "per_channel"
            if any(len(o.weight_scales) > 1 for o in quantised.operators)
            else "per_tensor",
            "onnx_opset_at_least": OPSET,
        },
        "onnx_against_paddle": dict(agreement),
        "versions": _versions(opt_version),
    }


def _versions(opt_version: str) -> dict[str, str]:
    versions = {"picoquant": picoquant.__version__, "python": platform.python_version(), "opt": opt_version}
    for name in _TOOLS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in paths
    }
