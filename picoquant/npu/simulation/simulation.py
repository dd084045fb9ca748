"""A model folder as the target's integers compute it; called like every other runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from picoquant.errors import PicoquantError, ToolError
from picoquant.int8.paddle_reader import read_quantised
from picoquant.npu.simulation.arithmetic import Levels
from picoquant.npu.simulation.graph import build_graph
from picoquant.npu.simulation.normal_form import in_normal_form
from picoquant.npu.simulation.steps import make_steps
from picoquant.paddle_program.edit import batch_of_one
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params
from picoquant.targets.integer_rules import Rules
from picoquant.utils.batching import in_batches


class NpuSimulation:
    """An INT8 network in a target's integers; a simulation, no board.

    Attributes:
        input_names: what a feed must hold.
        outputs: names and shapes.
        levels: how each tensor is stored.
        per_channel: whether a weight has several scales.

    Args:
        folder: an INT8 model in Paddle Lite's form, exported as raw.
        rules: of the target.

    Raises: `WeightsError` for a float model; `ToolError` for an operator or a range that is missing.
    """

    def __init__(self, folder: ModelFolder, rules: Rules) -> None:
        program = batch_of_one(folder.model, folder.config.input_size)
        params = read_params(program, folder.params)
        quantised, values = in_normal_form(read_quantised(program, params, folder.model), params)
        graph = build_graph(quantised, values, rules)
        if len(graph.split.inputs) != 1:
            raise ToolError(
                f"{folder.path} takes {', '.join(graph.split.inputs)}: the simulation is of what an NPU runs, so "
                "export the model as raw (export.post_process: false)"
            )
        self.levels: Mapping[str, Levels] = graph.levels
        self.input_names = graph.split.inputs
        self.outputs = tuple(
            (name, (-1, *graph.split.tensor(name).shape[1:])) for name in graph.split.outputs
        )
        self.per_channel = any(len(one.weight_scales) > 1 for one in quantised.operators)
        self._rules = rules
        self._steps = make_steps(graph, rules)
        self._last_use = {name: place for place, step in enumerate(self._steps) for name in step.inputs}

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, one image after the other; outputs are values, float32."""
        return in_batches(self._run, feed, 1)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found = self.run_levels(feed)
        return [self.levels[name].values(found[name]) for name, _ in self.outputs]

    def run_levels(self, feed: Mapping[str, np.ndarray], keep: bool = False) -> dict[str, np.ndarray]:
        """One image; the outputs' levels by name, of every tensor with `keep`."""
        name = self.input_names[0]
        held = {name: self.levels[name].quantise(feed[name], self._rules.arithmetic.rounding)}
        wanted = {output for output, _ in self.outputs}
        for place, step in enumerate(self._steps):
            results = step.run([held[name] for name in step.inputs])
            for name, result, shape in zip(step.outputs, results, step.shapes):
                if result.shape != shape:
                    raise PicoquantError(
                        f"{step.kind} {name} has shape {result.shape}, the model says {shape}"
                    )
                held[name] = result
            for name in step.inputs:
                if not keep and self._last_use[name] == place and name not in wanted:
                    held.pop(name, None)
        return held
