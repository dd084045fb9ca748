"""The FP32 teacher, run by Paddle's inference engine with its fusions instead of beside the student."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import ConfigError
from picoquant.export.model_folder import MODEL, PARAMS
from picoquant.quantization.programs import InferenceModel, save_program, with_outputs

PREFIX = "teacher_"


class Teacher:
    """Computes the variables that the student is compared with.

    Args:
        model: the FP32 model, loaded in the current scope.
        executor: of that scope.
        names: the variables.
        folder: where the teacher's own model files are written.

    Raises: `ConfigError` when a variable is not in the model.
    """

    def __init__(self, model: InferenceModel, executor: Any, names: list[str], folder: Path) -> None:
        block = model.program.global_block()
        missing = [name for name in names if not block.has_var(name)]
        if missing:
            raise ConfigError(f"Distillation.node: the teacher has no variable {missing[0]}")
        program = with_outputs(model.program, model.feeds, names)
        save_program(program, executor, folder)
        self._names = names
        self._predictor = make_predictor(folder)

    def __call__(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values of the variables for a batch, by their name with the prefix `teacher_`."""
        values = run_predictor(self._predictor, feed)
        return {PREFIX + name: value for name, value in zip(self._names, values)}


def make_predictor(folder: Path) -> Any:
    """A CPU predictor of Paddle's inference runtime for a folder's model; it says nothing."""
    from paddle import inference

    config = inference.Config(str(Path(folder) / MODEL), str(Path(folder) / PARAMS))
    config.disable_gpu()
    config.disable_glog_info()
    config.switch_ir_optim(True)
    config.enable_memory_optim()
    config.set_cpu_math_library_num_threads(os.cpu_count() or 1)
    config.enable_mkldnn()
    return inference.create_predictor(config)


def run_predictor(predictor: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a predictor in order; inputs it does not have are left out."""
    for name in predictor.get_input_names():
        predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(feed[name]))
    predictor.run()
    return [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]
