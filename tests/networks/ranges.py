"""Ranges of a loaded network's activations, measured on one batch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from picoquant.int8.passes.activations import target_tensors
from picoquant.int8.passes.tie_avoidance import products_of, tie_free_ranges
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.engine.simulation import Simulation
from picoquant.quantization.ptq.range_search import zero_point_of
from tests.networks.paddle_static import run_folder


def measured_ranges(model: ProgramModel, feed: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The absmax of every activation, those of post-processing included, by name.

    Args:
        model: a float network.
        feed: arrays by input name, the batch first.
    """
    values = _values(model, feed)
    return {name: float(np.abs(value).max(initial=0)) for name, value in values.items()}


def with_zero_points(
    model: ProgramModel, feed: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], dict[str, int]]:
    """Ranges from the lowest to the highest value (`QuantParams.of_range`), and zero points, as `quantize` keeps them.

    Tensors that share a scale have one of each, and no result lies near a middle; those inside layers have none.
    """
    values, graph = _values(model, feed), model.graph()
    ranges = {name: float(np.abs(value).max(initial=0)) for name, value in values.items()}
    zeros: dict[str, int] = {}
    groups = target_tensors(graph).groups
    for group in groups:
        low = min(float(values[name].min(initial=0)) for name in group if name in values)
        high = max(float(values[name].max(initial=0)) for name in group if name in values)
        value, zero = zero_point_of(low, max(high, low + 1e-3))
        ranges.update(dict.fromkeys(group, value))
        zeros.update(dict.fromkeys(group, zero))
    return tie_free_ranges(ranges, products_of(graph), groups, 8, zeros), zeros


def _values(model: ProgramModel, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    graph = model.graph()
    names = [*graph.inputs, *(name for op in graph.operators for name in op.results)]
    names = [name for name in dict.fromkeys(names) if graph.is_activation(name)]
    if any(op.op_type.startswith("multiclass_nms") for op in graph.operators):
        with tempfile.TemporaryDirectory() as folder:  # the engine ends in front of it
            model.with_outputs(names).save(Path(folder))
            return dict(zip(names, run_folder(Path(folder), feed)))
    return dict(zip(names, Simulation(model, {}, outputs=names)(feed)))
