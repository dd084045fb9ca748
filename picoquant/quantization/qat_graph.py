"""The quantised network as a float program: float weights, with the rounding to INT8 as operators.

It is what QAT trains, and what is evaluated, as the other tensors that integer runtimes round
(see `activation_quantisers`) are rounded too. It is kept beside the INT8 model for the parity ladder of
`picoquant eval --ladder`: the integers and scales that were written must reproduce it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from picoquant.int8.build import Int8Source
from picoquant.int8.fake_quant_run import load_source, round_tensors
from picoquant.int8.operators import scale_name
from picoquant.int8.passes.activations import activation_quantisers
from picoquant.quantization.fake_quant import insert_fake_quantisation

FOLDER = "qat_graph"


def write_qat_graph(source: Int8Source, folder: Path) -> None:
    """Write a model folder's program and weights; Paddle runs them without further conversion.

    Args:
        source: weights, ranges and operators, the same that the INT8 model is written from.
        folder: created; receives `model.pdmodel` and `model.pdiparams`.
    """
    model = load_source(source)
    names = activation_quantisers(model.graph(), source.operators)
    for operator in source.operators:
        params, top = source.params(operator.activation), source.ranges[operator.activation]
        if not params.is_symmetric:
            top = params.scale * (2**params.bits - 1)
        model.store(scale_name(operator.activation), np.array([top]))
    limits = {name: source.params(name) for name in source.ranges}
    insert_fake_quantisation(model, source.settings, source.operators, limits)
    limits = {name: limits[name] for name in names if name in limits}
    renamed = round_tensors(model, limits, source.settings.activation_bits)
    model.with_outputs([renamed.get(name, name) for name in model.outputs]).save(folder)
