"""Layers that stay in floating point in an INT8 model, by name.

A layer is named by its weight without the ending (`conv2d_5.w_0` is `conv2d_5`), as `picoquant analyze` prints
it, or by its result (`conv2d_5.tmp_0`). Operators that share a weight stay in float together: the weight is
stored once, as whole numbers or as floats.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from picoquant.errors import ConfigError
from picoquant.int8.operators import QuantizableOperator, quantizable_operators
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.program import KEPT_FLOAT

LOG = logging.getLogger("picoquant")

_NEAREST = 3


def layer_names(operators: Sequence[QuantizableOperator]) -> tuple[str, ...]:
    """The name of each operator's layer; with its place behind it where layers share a weight."""
    weights = [operator.weight for operator in operators]
    names = [weight.rsplit(".", 1)[0] for weight in weights]
    return tuple(
        f"{name}@{index}" if weights.count(weight) > 1 else name
        for index, (name, weight) in enumerate(zip(names, weights))
    )


def with_same_weight(
    chosen: Iterable[QuantizableOperator], operators: Sequence[QuantizableOperator]
) -> tuple[QuantizableOperator, ...]:
    """The chosen operators and those that share a weight with one, in the network's order."""
    weights = {operator.weight for operator in chosen}
    return tuple(operator for operator in operators if operator.weight in weights)


def choose(
    patterns: Sequence[str], operators: Sequence[QuantizableOperator]
) -> tuple[QuantizableOperator, ...]:
    """The operators that names and patterns (`*`, `?`, `[…]`) mean, in the network's order.

    Raises: `ConfigError` for one that means none (with the nearest names), and when nothing is left for INT8.
    """
    names = layer_names(operators)
    chosen = []
    for pattern in patterns:
        found = [
            operator
            for name, operator in zip(names, operators)
            if fnmatchcase(name, pattern) or fnmatchcase(operator.output, pattern)
        ]
        if not found:
            near = difflib.get_close_matches(pattern, [*names, *(o.output for o in operators)], _NEAREST, 0.3)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise ConfigError(
                f"Quantize.keep_float: no layer is called {pattern}{hint} (`picoquant analyze` lists the layers)"
            )
        chosen += found
    kept = with_same_weight(chosen, operators)
    if len(kept) == len(operators):
        raise ConfigError(
            f"Quantize.keep_float: {', '.join(patterns)} means all {len(operators)} layers, so nothing would be "
            "INT8; package the FP32 export instead"
        )
    return kept


def mark_ignored_layers(
    model: ProgramModel, patterns: Sequence[str], quant: QuantAwareSettings
) -> tuple[str, ...]:
    """Mark layers of a float model so that quantisation leaves them alone; only the marks are new.

    Args:
        model: batch-norm folded, as folding names results anew.
        patterns: see `choose`.
        quant: which operators become INT8 at all.

    Returns: names of the layers.
    """
    operators = quantizable_operators(model, quant)
    kept = {operator.output for operator in choose(patterns, operators)}
    for op in model.operators:
        if kept.intersection(op.outputs):
            op.set_attribute("op_namescope", f"/{KEPT_FLOAT}/")
    names = tuple(name for name, op in zip(layer_names(operators), operators) if op.output in kept)
    LOG.info("quantize: %d of %d layers stay in float: %s", len(names), len(operators), ", ".join(names))
    return names


def exclude_ignored_layers(quant: QuantAwareSettings) -> QuantAwareSettings:
    """The settings with which marked layers are left alone."""
    return replace(quant, not_quant_pattern=(*quant.not_quant_pattern, KEPT_FLOAT))
