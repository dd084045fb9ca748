"""A model folder computed in the target's integer arithmetic; called like every other runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from picoquant.errors import PicoquantError, ToolError
from picoquant.int8.files import open_network
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation.arithmetic import dequantise, quantise
from picoquant.npu.simulation.graph import build_graph
from picoquant.npu.simulation.steps import make_steps
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.targets.integer_rules import Rules
from picoquant.utils.batching import in_batches


class NpuSimulation:
    """Simulates an INT8 network in a target's integer arithmetic, without the board.

    Attributes:
        input_names: names of the arrays that a feed must hold.
        outputs: names and shapes of the outputs; the batch size is -1.
        params: the target's quantisation parameters of each tensor, by name.
        per_channel: whether any weight has several scales.
        graph: the network for one image with these parameters.
        rules: the target's rules.

    Args:
        folder: an INT8 model in Paddle Lite's form, exported as raw.
        rules: the target's rules.

    Raises: `WeightsError` for a float model; `ToolError` for an unsupported operator, a tensor without a
        range, or a model with more than one input.
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
        self.graph = graph
        self.rules = rules
        self._steps = make_steps(graph, rules)
        self._last_use = {name: index for index, step in enumerate(self._steps) for name in step.inputs}

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch, one image at a time.

        Args:
            feed: arrays by input name, the batch as first axis.

        Returns: the outputs, dequantised, float32, in the order of `outputs`.
        """
        return in_batches(self._run, feed, 1)

    def _run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        tensors = self.run_steps(feed)
        return [dequantise(tensors[name], self.params[name]) for name, _ in self.outputs]

    def run_steps(self, feed: Mapping[str, np.ndarray], keep: bool = False) -> dict[str, np.ndarray]:
        """Run one image; returns the quantised outputs by name, with `keep` every quantised tensor.

        Raises: `PicoquantError` if a tensor has another shape than the model declares.
        """
        name = self.input_names[0]
        tensors = {name: quantise(feed[name], self.params[name], self.rules.arithmetic.rounding)}
        outputs = {output for output, _ in self.outputs}
        for index, step in enumerate(self._steps):
            results = step.run([tensors[name] for name in step.inputs])
            for name, result, shape in zip(step.outputs, results, step.shapes):
                if result.shape != shape:
                    raise PicoquantError(
                        f"{step.op_type} {name} has shape {result.shape}, the model says {shape}"
                    )
                tensors[name] = result
            for name in step.inputs:
                if not keep and self._last_use[name] == index and name not in outputs:
                    tensors.pop(name, None)
        return tensors
