"""The distillation loss: PaddleSlim's losses of pairs of variables, summed.

PaddleSlim 2.6 (`create_compressed_program.py`, `_parse_distill_loss`) adds a group's loss again for every later
group with a loss of the same name, so that of two groups with `l2` the first counts twice. Here each counts
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddleslim.dist import single_distiller


def distillation_loss(
    pairs: Sequence[Any], losses: str | Sequence[str], alphas: float | Sequence[float]
) -> Any:
    """The loss of the current program, a variable `[]` or `[1]`.

    Args:
        pairs: names of teacher's and student's variables in turn, or a list of such lists.
        losses: name of the loss (`l2`: the mean squared difference; `soft_label`: the cross-entropy of the
            softmax over the last axis; `dkd`, `skd`), one for each list.
        alphas: factor, one for each list.
    """
    if isinstance(pairs[0], str):
        pairs, losses, alphas = [pairs], [losses], [alphas]
    total = 0.0
    for names, loss, alpha in zip(pairs, losses, alphas):
        for teacher, student in zip(names[::2], names[1::2]):
            total = total + getattr(single_distiller, loss)(teacher, student) * alpha
    return total
