"""A model folder: an exported Paddle inference model with its `infer_cfg.yml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from picoquant.errors import WeightsError
from picoquant.paddle_program.infer_config import InferConfig, read_infer_config

MODEL = "model.pdmodel"
PARAMS = "model.pdiparams"


@dataclass(frozen=True)
class ModelFolder:
    """The files of an exported model; `open` checks that they exist.

    Attributes:
        path: the folder.
        model: path of the program, a protobuf `ProgramDesc`.
        params: path of its weights, one file.
        config: input size, preprocessing, labels, strides and NMS.
    """

    path: Path
    model: Path
    params: Path
    config: InferConfig

    @classmethod
    def open(
        cls,
        path: Path,
        model_filename: str = MODEL,
        params_filename: str = PARAMS,
        config: InferConfig | None = None,
    ) -> ModelFolder:
        """Open an exported model.

        Args:
            path: the folder.
            model_filename, params_filename: names of the files in it.
            config: used instead of the folder's `infer_cfg.yml` or `inference.yml`, which may then be missing.

        Raises: `WeightsError` naming the missing file and what to do, or if `infer_cfg.yml` is invalid.
        """
        path = Path(path).expanduser()
        if not path.is_dir():
            raise WeightsError(f"no such model folder: {path}; export a model there first")
        model, params = path / model_filename, path / params_filename
        if not model.is_file():
            raise WeightsError(_missing_model(path, model))
        if not params.is_file():
            raise WeightsError(
                f"{params} is missing: copy it from where {model.name} was exported, or name it "
                "with params_filename"
            )
        return cls(path, model, params, config or read_infer_config(path, model.name))


def _missing_model(path: Path, model: Path) -> str:
    newer = model.with_suffix(".json")
    if newer.is_file():
        return (
            f"{newer} is a program of PaddlePaddle 3, which Paddle Lite and PaddlePaddle 2.6 "
            "cannot read: export again with the environment variable FLAGS_enable_pir_api=0"
        )
    others = sorted(file.name for file in path.glob("*.pdmodel"))
    there = f"; {', '.join(others)} is there: name it with model_filename" if others else ""
    return f"{model} is missing{there or ': export the model there first'}"
