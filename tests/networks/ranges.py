"""Ranges of a loaded network's activations, measured on one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from picoquant.int8.fake_quant_run import Simulation
from picoquant.paddle_program.static.programs import InferenceModel


def measured_ranges(model: InferenceModel, executor: Any, feed: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The absmax of every activation, those of post-processing included, by name.

    Args:
        model: its variables are in the current scope, within a static session.
        executor: of that scope.
        feed: arrays by input name, the batch first.
    """
    graph = model.graph()
    names = [*graph.inputs, *(name for op in graph.operators for name in op.results)]
    names = [name for name in dict.fromkeys(names) if graph.is_activation(name)]
    values = Simulation(model, executor, {}, outputs=names)(feed)
    return {name: float(np.abs(value).max(initial=0)) for name, value in zip(names, values)}
