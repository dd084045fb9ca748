"""What a user names as a model: a model folder, an ONNX file, or a package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import program_facts


@dataclass(frozen=True)
class Model:
    """A network in files, of one precision; at least one form of it is there.

    Attributes:
        name: what tables call it.
        precision: `fp32` or `int8`.
        config: preprocessing, labels, strides, NMS.
        folder: the Paddle form.
        onnx: the ONNX form; where there is none, one is made of the Paddle form.
    """

    name: str
    precision: str
    config: InferConfig
    folder: ModelFolder | None = None
    onnx: Path | None = None


def model_of_folder(folder: ModelFolder, name: str = "") -> Model:
    """A model folder as a `Model`."""
    quantised = program_facts(folder.model).quantised
    return Model(name or folder.path.name, "int8" if quantised else "fp32", folder.config, folder)
