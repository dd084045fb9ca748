"""Ranges of a loaded network's activations, measured on one batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.engine.simulation import Simulation


def measured_ranges(model: ProgramModel, feed: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The absmax of every activation, those of post-processing included, by name.

    Args:
        model: a float network.
        feed: arrays by input name, the batch first.
    """
    graph = model.graph()
    names = [*graph.inputs, *(name for op in graph.operators for name in op.results)]
    names = [name for name in dict.fromkeys(names) if graph.is_activation(name)]
    values = Simulation(model, {}, outputs=names)(feed)
    return {name: float(np.abs(value).max(initial=0)) for name, value in zip(names, values)}
