"""A network with any chosen tensors and weights rounded to INT8, the rest in FP32, run for values.

The building block of the analysis (one tensor or weight at a time, or all of them) and of the ranking of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle

from picoquant.int8.fake_quant_run import require_tensors
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.graph import Graph
from picoquant.quantization.engine.arrays import as_array
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.tracing.kernels import fake_quantise


class Simulation:
    """A network in which chosen tensors and weights are rounded; called with a feed.

    Args:
        model: stays as it is, and is taken as it is now.
        ranges: tensor -> how it is quantised. Inputs of the network may be among them.
        weights: stored variable -> the value to use instead, see `rounded_weight`.
        outputs: names of the tensors to give, by default the model's outputs; those that are rounded are
            given rounded.
        convolutions: computes them; None: its own, without oneDNN, which is faster from some images on.

    Raises: `PicoquantError` for a tensor that is not there.
    """

    def __init__(
        self,
        model: ProgramModel,
        ranges: Mapping[str, QuantParams],
        weights: Mapping[str, np.ndarray] | None = None,
        outputs: Iterable[str] | None = None,
        convolutions: Convolutions | None = None,
    ) -> None:
        graph = model.graph()
        self.outputs = tuple(graph.outputs if outputs is None else outputs)
        there = {*graph.inputs, *(name for op in graph.operators for name in op.results)}
        require_tensors([*ranges, *self.outputs], there)
        values = {
            **model.values,
            **{name: value.astype(np.float32) for name, value in (weights or {}).items()},
        }
        held = {name: Rounding(params) for name, params in ranges.items()}
        self._network = FakeQuantNetwork(
            graph, values, (), {}, convolutions=convolutions or Convolutions(onednn=False), held=held
        )
        self.input_names = tuple(name for name in model.inputs if name in _needed(graph, self.outputs))

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs for a batch.

        Raises: `WeightsError` naming an operator that is needed and not known.
        """
        tensors = {name: paddle.to_tensor(feed[name]) for name in self.input_names}
        with paddle.no_grad():
            return [as_array(one) for one in self._network(tensors, self.outputs)]


class Rounding:
    """Rounds a tensor to the quantised values of a range.

    Args:
        params: of the tensor.
    """

    def __init__(self, params: QuantParams) -> None:
        self._params = params
        self._absmax = paddle.to_tensor(np.float32([params.absmax])) if params.is_symmetric else None

    def __call__(self, value: Any, following: bool = False) -> Any:
        """The rounded tensor."""
        params = self._params
        if self._absmax is not None:
            return fake_quantise(value, self._absmax, params.bits)
        steps = paddle.clip(paddle.round(value * (1.0 / params.scale)), float(params.low), float(params.high))
        return steps * params.scale


def _needed(graph: Graph, outputs: Iterable[str]) -> set[str]:
    """The tensors that some are computed from, and these."""
    needed = set(outputs)
    for op in reversed(graph.operators):
        if any(name in needed for _, name in op.outputs):
            needed.update(name for _, name in op.inputs)
    return needed
