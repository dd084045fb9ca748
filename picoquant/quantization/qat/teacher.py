"""The FP32 teacher, run by Paddle's inference engine with its fusions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import ConfigError, WeightsError
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder


class Teacher:
    """Computes the tensors that the student is compared with.

    Args:
        source: folder of the FP32 model.
        names: of the tensors.
        folder: receives a model with these tensors as outputs.
        config: of the FP32 model's folder.

    Raises: `ConfigError` when a tensor is not in the model.
    """

    def __init__(self, source: Path, names: Sequence[str], folder: Path, config: InferConfig) -> None:
        model = ProgramModel.load(source)
        missing = [name for name in names if not model.has(name)]
        if missing:
            raise ConfigError(f"Distillation.node: the teacher has no variable {missing[0]}")
        model.with_outputs(names).save(folder)
        self._names = tuple(names)
        self._predictor = open_predictor(ModelFolder.open(folder, config=config))

    def __call__(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The tensors of a batch by name.

        Args:
            feed: arrays by input name, the batch first.

        Raises: `WeightsError` naming one that is not finite.
        """
        values = self._predictor(feed)
        self._predictor.free()  # for the student's step
        for name, value in zip(self._names, values):
            if not np.isfinite(value).all():
                raise WeightsError(
                    f"the teacher's {name} holds values that are no finite numbers: check the FP32 model's "
                    "weights and that the images are prepared as its infer_cfg.yml says"
                )
        return dict(zip(self._names, values))
