"""The FP32 teacher, run by Paddle's inference engine with its fusions instead of beside the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import ConfigError, WeightsError
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.static.programs import InferenceModel, save_program, with_outputs

PREFIX = "teacher_"


class Teacher:
    """Computes the variables that the student is compared with.

    Args:
        model: the FP32 model, loaded into the current scope.
        executor: of Paddle.
        names: of the variables.
        folder: receives a model with these variables as outputs.
        config: of the FP32 model's folder.

    Raises: `ConfigError` when a variable is not in the model.
    """

    def __init__(
        self, model: InferenceModel, executor: Any, names: list[str], folder: Path, config: InferConfig
    ) -> None:
        block = model.program.global_block()
        missing = [name for name in names if not block.has_var(name)]
        if missing:
            raise ConfigError(f"Distillation.node: the teacher has no variable {missing[0]}")
        program = with_outputs(model.program, model.feeds, names)
        save_program(program, executor, folder)
        self._names = names
        self._predictor = open_predictor(ModelFolder.open(folder, config=config))

    def __call__(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The variables for a batch, by their name with the prefix `teacher_`.

        Args:
            feed: arrays by input name, the batch first.

        Raises: `WeightsError` naming one that is not finite.
        """
        values = self._predictor(feed)
        for name, value in zip(self._names, values):
            if not np.isfinite(value).all():
                raise WeightsError(
                    f"the teacher's {name} holds values that are no finite numbers: check the FP32 model's "
                    "weights and that the images are prepared as its infer_cfg.yml says"
                )
        return {PREFIX + name: value for name, value in zip(self._names, values)}
