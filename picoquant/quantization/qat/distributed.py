"""A training step shared by several processes, started by `python -m paddle.distributed.launch`.

A training program is cut in two: forward and backward, then the optimisers. Between them the processes exchange the
means of their gradients in one message, through the process group that FP32 training uses, so the updates are those
of one process with all the images. Ranges that follow the data take the largest value of any process, as one process
would; within a step each process still rounds with its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.paddle_program.static.programs import read_variable, write_variable
from picoquant.quantization.fake_quant import ACTIVATION_QUANTISER
from picoquant.quantization.processes import Processes
from picoquant.quantization.qat.learned_ranges.moving_average import AVERAGE

_OPTIMISE, _RATE = 0x2, 0x10  # op_role


@dataclass(frozen=True)
class SharedProgram:
    """A training program of several processes.

    Attributes:
        compute: the program of forward and backward.
        update: the program of the optimisers.
        gradients: names of the variables that `update` reads from `compute`.
        ranges: names of the activations whose ranges are moving averages.
        statistics: names of batch-norm statistics that follow the data.
    """

    compute: Any
    update: Any
    gradients: tuple[str, ...]
    ranges: tuple[str, ...]
    statistics: tuple[str, ...]

    def run(
        self,
        processes: Processes,
        executor: Any,
        scope: Any,
        feed: dict[str, np.ndarray],
        loss: Any,
        flags: Sequence[bool],
    ) -> tuple[Any, ...]:
        """Train on a batch.

        Args:
            processes: all of them must call this.
            executor: of this process.
            scope: its variables.
            feed: its share of the images, and the teacher's values, by input name.
            loss: the variable that is minimised.
            flags: of this process.

        Returns: the mean loss over all processes, then for each flag whether it is set in any process.
        """
        (own,) = executor.run(self.compute, feed=feed, fetch_list=[loss.name])
        values = [read_variable(scope, name) for name in (*self.gradients, *self.statistics)]
        flat = [value.ravel() for value in values]
        fused = processes.mean(np.concatenate([np.ravel(own)[:1], np.float32(flags), *flat]))
        offset = 1 + len(flags)
        for name, value in zip((*self.gradients, *self.statistics), values):
            part = fused[offset : offset + value.size]
            write_variable(scope, name, part.reshape(value.shape).astype(np.float32))
            offset += value.size
        executor.run(self.update, fetch_list=[])
        self._unify_ranges(processes, scope)
        return (float(fused[0]), *(bool(value > 0) for value in fused[1 : 1 + len(flags)]))

    def _unify_ranges(self, processes: Processes, scope: Any) -> None:
        if not self.ranges:
            return
        sums = [read_variable(scope, f"{name}@accum") for name in self.ranges]
        for name, value in zip(self.ranges, processes.max(np.concatenate(sums))):
            weight = read_variable(scope, f"{name}@state")
            write_variable(scope, f"{name}@accum", np.array([value], np.float32))
            write_variable(scope, f"{name}@scale", np.array([value], np.float32) / weight)


def shared_program(program: Any) -> SharedProgram:
    """Cut a training program in two; the program itself stays as it is."""
    compute, update = program.clone(), program.clone()
    for part, optimises in ((compute, False), (update, True)):
        block = part.global_block()
        for index in reversed(range(len(block.ops))):
            role = block.ops[index].attr("op_role")
            if bool(role & (_OPTIMISE | _RATE)) != optimises:
                block._remove_op(index, sync=False)
        part._sync_with_cpp()
    made = {name for op in compute.global_block().ops for name in op.output_arg_names}
    needed = {name for op in update.global_block().ops for name in op.input_arg_names}
    stored = program.global_block()
    gradients = sorted(name for name in made & needed if not stored.var(name).persistable)
    for part in (compute, update):
        for name in gradients:
            part.global_block().var(name).persistable = True
    return SharedProgram(
        compute, update, tuple(gradients), _following(compute), _following_statistics(compute)
    )


def _following(program: Any) -> tuple[str, ...]:
    """Names of the activations whose ranges are moving averages in a program."""
    kept = [
        op.input("InAccum")[0]
        for op in program.global_block().ops
        if op.type in (ACTIVATION_QUANTISER, AVERAGE) and not op.attr("is_test") and op.input("InAccum")
    ]
    return tuple(name[: -len("@accum")] for name in kept if name.endswith("@accum"))


def _following_statistics(program: Any) -> tuple[str, ...]:
    """Names of the running statistics that a program changes; folded batch-norms and those of exports have none."""
    return tuple(
        op.output(slot)[0]
        for op in program.global_block().ops
        if op.type == "batch_norm" and not op.attr("use_global_stats") and not op.attr("is_test")
        for slot in ("MeanOut", "VarianceOut")
    )
