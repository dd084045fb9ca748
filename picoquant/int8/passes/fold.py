"""Batch-norms and biases of an INT8 program in one form: a stored bias `[C]` behind each convolution, no batch-norm.

picoquant's own INT8 models have this form; those of PaddleSlim have batch-norms, and biases that are reshaped. The
integers of a weight stay as they are: a batch-norm's factor goes into the weight's scales, as a driver puts it there,
and where it is negative the channel's integers change sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from picoquant.int8.network import QuantizedOperator
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.batch_norm_folding import Folding

_SMALLEST = 1e-12  # of a factor: a scale must be above 0


def fold(
    program: Any, values: Mapping[str, np.ndarray], operators: Mapping[str, QuantizedOperator]
) -> tuple[Any, dict[str, np.ndarray], dict[str, QuantizedOperator]]:
    """Write biases as `[C]`, and fold each batch-norm that follows a convolution in INT8.

    Args:
        program: `ProgramDesc` without quantising operators; left as it is.
        values: its stored tensors.
        operators: those on integers, by result.

    Returns: the program, its stored tensors and the operators, all new. A batch-norm behind anything else stays.
    """
    copy = type(program)()
    copy.CopyFrom(program)
    folding, changed = Folding(copy, dict(values)), dict(operators)

    def scale(output: str, weight: str, factor: np.ndarray) -> None:
        changed[output] = scaled(replace(changed[output], weight=weight), factor)

    folding.flatten_biases()
    folding.fold_batch_norms(scale, rename=False, only=changed)
    return copy, folding.values, changed


def scaled(operator: QuantizedOperator, factor: np.ndarray) -> QuantizedOperator:
    """An operator whose weight is multiplied by a factor for each output channel, exactly.

    Args:
        factor: `[out channels]`, of any sign; where it is 0 the integers become 0.
    """
    shape = [-1] + [1] * (operator.integers.ndim - 1)
    sign = np.sign(factor).astype(np.int8).reshape(shape)
    scales = operator.scales * np.maximum(np.abs(factor), _SMALLEST)
    return replace(operator, integers=operator.integers * sign, params=QuantParams(scales, axis=0))
