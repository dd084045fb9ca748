"""A model folder as the target's integers compute it; called like every other runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from picoquant.errors import PicoquantError, ToolError
from picoquant.int8.files import open_network
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation.arithmetic import to_steps, to_values
from picoquant.npu.simulation.graph import build_graph
from picoquant.npu.simulation.steps import make_steps
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.targets.integer_rules import Rules
from picoquant.utils.batching import in_batches


class NpuSimulation:
    """An INT8 network in a target's integers; a simulation, no board.

    Attributes:
        input_names: what a feed must hold.
        outputs: names and shapes.
        params: how each tensor is stored.
        per_channel: whether a weight has several scales.

    Args:
        folder: an INT8 model in Paddle Lite's form, exported as raw.
        rules: of the target.

    Raises: `WeightsError` for a float model; `ToolError` for an operator or a range that is missing.
    """

    def __init__(self, folder: ModelFolder, rules: Rules) -> None:
        network = open_network(folder).for_one_image(folder.config.input_size, str(folder.model))
        graph = build_graph(network, rules)
        if len(graph.graph.inputs) != 1:
            raise ToolError(
                f"{folder.path} takes {', '.join(graph.graph.inputs)}: the simulation is of what an NPU runs, so "
                "export the model as raw (export.post_process: false)"
            )
        self.params: Mapping[str, QuantParams] = graph.params
        self.input_names = graph.graph.inputs
        self.outputs = tuple(
            (name, (-1, *graph.graph.tensor(name).shape[1:])) for name in graph.graph.outputs
        )
        self.per_channel = network.per_channel
        self._rules = rules
        self._steps = make_steps(graph, rules)
        self._last_use = {name: place for place, step in enumerate(self._steps) for name in step.inputs}

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, one image after the other; outputs are values, float32."""
        return in_batches(self._run, feed, 1)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found = self.run_steps(feed)
        return [to_values(found[name], self.params[name]) for name, _ in self.outputs]

    def run_steps(self, feed: Mapping[str, np.ndarray], keep: bool = False) -> dict[str, np.ndarray]:
        """One image; the outputs' steps by name, of every tensor with `keep`."""
        name = self.input_names[0]
        held = {name: to_steps(feed[name], self.params[name], self._rules.arithmetic.rounding)}
        wanted = {output for output, _ in self.outputs}
        for place, step in enumerate(self._steps):
            results = step.run([held[name] for name in step.inputs])
            for name, result, shape in zip(step.outputs, results, step.shapes):
                if result.shape != shape:
                    raise PicoquantError(
                        f"{step.op_type} {name} has shape {result.shape}, the model says {shape}"
                    )
                held[name] = result
            for name in step.inputs:
                if not keep and self._last_use[name] == place and name not in wanted:
                    held.pop(name, None)
        return held
