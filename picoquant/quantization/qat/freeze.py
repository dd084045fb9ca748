"""Freezing in the last part of QAT: weights still train, ranges of activations and batch-norm statistics do not.

The weights then train with the ranges that will be deployed; ranges and statistics that follow single batches to
the end leave both a little off (Jacob et al. 2018, https://arxiv.org/abs/1712.05877, and Krishnamoorthi 2018,
https://arxiv.org/abs/1806.08342, section 3.2.4).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from picoquant.quantization.fake_quant import ACTIVATION_QUANTISER
from picoquant.quantization.qat.learned_ranges.moving_average import AVERAGE


def freeze_ranges_and_statistics(program: Any, ranges: Collection[str]) -> Any:
    """A copy of a training program that leaves ranges and statistics as they are in the scope.

    Args:
        program: with backward and optimiser; stays as it is.
        ranges: names of the parameters that are learned ranges; their optimiser's operators are removed.
    """
    copy = program.clone()
    block = copy.global_block()
    norms = {op.input("X")[0]: op for op in block.ops if op.type == "batch_norm"}
    for index in reversed(range(len(block.ops))):
        op = block.ops[index]
        learns = "Param" in op.input_names and op.input("Param")[0] in ranges
        if op.type == AVERAGE or learns:
            block._remove_op(index, sync=False)
        elif op.type == ACTIVATION_QUANTISER:
            op._set_attr("is_test", True)
        elif op.type == "batch_norm":
            op._set_attr("use_global_stats", True)
        elif op.type == "batch_norm_grad":
            op._set_attr("use_global_stats", True)
            forward = norms[op.input("X")[0]]
            for slot in ("Mean", "Variance"):
                op.desc.set_input(slot, forward.output(f"{slot}Out"))
    copy._sync_with_cpp()
    return copy


def freeze_step(steps: int, part: float) -> int:
    """The number of steps after which ranges and statistics are frozen.

    Args:
        steps: of the whole training.
        part: the last part of it that is trained frozen, 0 to below 1.
    """
    return steps - int(part * steps)
