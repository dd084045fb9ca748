"""The INT8 network as an NPU computes it that runs nothing else: every tensor in INT8, simulated.

The INT8 model leaves what follows the last convolutions in float (`tensors.rounded_tensors`); an NPU that runs INT8
only does not. `picoquant/npu_simulation` computes in a target's own integers; this rounds values, and is faster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle

from picoquant.int8.activations import target_tensors
from picoquant.int8.fake_quant_run import Range, Simulation
from picoquant.int8.paddle_writer import Int8Source, float_values, load_source
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder


def write_every_tensor_model(
    source: Int8Source, executor: Any, folder: Path, config: InferConfig
) -> ModelFolder:
    """Write the simulation as a model folder.

    Of layers in float the weights are as they are in the source; what goes in and comes out is still rounded.

    Args:
        source: what the INT8 model is made from; it has a range for every tensor of `target_tensors`.
        executor: of Paddle.
        folder: is made.
        config: of the model folder.
    """
    with paddle.static.scope_guard(paddle.static.Scope()):
        model = load_source(source, executor)
        rounded = float_values(source, model)
        names = target_tensors(model.program, model.feeds).names
        limits = {name: Range.symmetric(source.ranges[name]) for name in names}
        return Simulation(model, executor, limits, rounded).save(folder, config)
