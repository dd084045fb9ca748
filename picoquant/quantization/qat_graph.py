"""The quantised network as a float program: float weights, with the rounding to INT8 as operators.

It is what QAT trains, and what is evaluated, as the other tensors that integer runtimes round
(see `activation_quantisers`) are rounded too. It is kept beside the INT8 model for the parity ladder of
`picoquant eval --ladder`: the integers and scales that were written must reproduce it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.int8.build import Int8Source
from picoquant.int8.fake_quant_run import load_source, round_tensors
from picoquant.int8.operators import scale_name
from picoquant.int8.passes.activations import activation_quantisers
from picoquant.paddle_program.static.programs import (
    save_program,
    strip_feed_fetch,
    with_outputs,
    write_variable,
)
from picoquant.quantization.fake_quant import insert_fake_quantisation

FOLDER = "qat_graph"


def write_qat_graph(source: Int8Source, executor: Any, folder: Path) -> None:
    """Write a model folder's program and weights; Paddle runs them without further conversion.

    Args:
        source: weights, ranges and operators, the same that the INT8 model is written from.
        executor: of Paddle.
        folder: created; receives `model.pdmodel` and `model.pdiparams`.
    """
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        loaded = load_source(source, executor)
        program = strip_feed_fetch(loaded.program.clone(for_test=True))
        for operator in source.operators:
            params = source.params(operator.activation)
            top = source.ranges[operator.activation]
            if not params.is_symmetric:
                top = params.scale * (2**params.bits - 1)
            write_variable(scope, scale_name(operator.activation), np.array([top], np.float32))
        names = activation_quantisers(loaded.graph(), source.operators)
        limits = {name: source.params(name) for name in source.ranges}
        insert_fake_quantisation(program, scope, source.settings, source.operators, limits)
        limits = {name: limits[name] for name in names if name in limits}
        renamed = round_tensors(
            program.global_block(), scope, limits, loaded.feeds, source.settings.activation_bits
        )
        folder.mkdir(parents=True, exist_ok=True)
        outputs = [renamed.get(variable.name, variable.name) for variable in loaded.fetches]
        save_program(with_outputs(program, loaded.feeds, outputs), executor, folder)
