"""Open a model in any of its forms: folder, ONNX file, package or its archive."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from picoquant.backends.onnx.files import is_quantised
from picoquant.errors import UserError, WeightsError
from picoquant.packaging.archive import SUFFIX, extract
from picoquant.packaging.forms import PADDLE, files_in
from picoquant.packaging.manifest import NAME, changed_files, read_manifest
from picoquant.paddle_program.infer_config import (
    FILE_NAME,
    InferConfig,
    find_infer_config,
    read_infer_config,
)
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder, find_files
from picoquant.paddle_program.program import program_facts
from picoquant.runtimes.model import Model, model_of_folder


@contextmanager
def open_model(
    path: Path, config: InferConfig | None = None, model_filename: str = MODEL, params_filename: str = PARAMS
) -> Iterator[Model]:
    """Look at what a path names; an archive is unpacked for as long as the block lasts.

    Args:
        path: a model folder, an `.onnx` file, a package's folder or its `.tar.gz`.
        config: used where the model has no `infer_cfg.yml`: an `.onnx` file's stands beside it, or in the
            `paddle` folder of the package around it.
        model_filename, params_filename: of a model folder.

    Raises: `UserError` when it is none of these, or when files of a package are not those of its manifest.
    """
    path = Path(path).expanduser()
    if path.suffix == ".onnx" and path.is_file():
        yield _onnx_file(path, config)
    elif path.is_file() and path.name.endswith(SUFFIX):
        with tempfile.TemporaryDirectory(prefix="picoquant-package-") as scratch:
            yield _package(extract(path, Path(scratch)), path)
    elif (path / NAME).is_file():
        yield _package(path, path)
    elif path.is_dir():
        model, _ = find_files(path, model_filename, params_filename, say=False)
        known = None if find_infer_config(path, model.name) else config
        yield model_of_folder(ModelFolder.open(path, model_filename, params_filename, known))
    else:
        what = "is no model" if path.exists() else "does not exist"
        raise UserError(
            f"{path} {what}: name a folder with model.pdmodel, an .onnx file, or a package (folder or {SUFFIX})"
        )


def _onnx_file(path: Path, config: InferConfig | None) -> Model:
    precision = "int8" if is_quantised(path) else "fp32"
    for place in (path.parent, path.parent / PADDLE):
        if find_infer_config(place, path.name):
            return Model(path.stem, precision, read_infer_config(place, path.name), files={"onnx": path})
    if config is None:
        raise WeightsError(
            f"{path} has no {FILE_NAME} beside it, so its preprocessing is unknown: put there the one of the "
            "model folder that it was made from"
        )
    return Model(path.stem, precision, config, files={"onnx": path})


def _package(folder: Path, named: Path) -> Model:
    wrong = changed_files(folder, read_manifest(folder))
    if wrong:
        raise UserError(f"{named} is not what its manifest says ({wrong[0]}): package the model again")
    paddle = ModelFolder.open(folder / PADDLE)
    precision = "int8" if program_facts(paddle.model).quantised else "fp32"
    files = files_in(folder) if precision == "int8" else {}
    return Model(named.name, precision, paddle.config, paddle, files)
