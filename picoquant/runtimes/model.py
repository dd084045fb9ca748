"""What a user names as a model: a model folder, an ONNX file, or a package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import program_facts


@dataclass(frozen=True)
class Model:
    """A network in files, of one precision: its Paddle form, or files that a backend runs, or both.

    Attributes:
        name: what tables call it.
        precision: `fp32` or `int8`.
        config: preprocessing, labels, strides, NMS.
        folder: the Paddle form.
        files: ready-made files by the name of the backend that runs them; the other backends are given files made of
            the Paddle form.
    """

    name: str
    precision: str
    config: InferConfig
    folder: ModelFolder | None = None
    files: Mapping[str, Path] = field(default_factory=dict)


def model_of_folder(folder: ModelFolder, name: str = "") -> Model:
    """A model folder as a `Model`."""
    quantised = program_facts(folder.model).quantised
    return Model(name or folder.path.name, "int8" if quantised else "fp32", folder.config, folder)
