"""One step of QAT, in one process or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from picoquant.quantization.processes import Processes
from picoquant.quantization.qat.distributed import shared_program
from picoquant.quantization.qat.programs import QatPrograms


class TrainingStep:
    """Runs forward, backward and optimiser on a batch.

    Args:
        programs: what runs.
        scope: their variables.
        processes: all of them run each step together.
    """

    def __init__(self, programs: QatPrograms, scope: Any, processes: Processes) -> None:
        self._programs, self._scope, self._processes = programs, scope, processes
        if processes.world > 1:
            self._shared = [shared_program(one) for one in (programs.train, programs.frozen)]

    def __call__(
        self, feed: Mapping[str, np.ndarray], frozen: bool, flags: Sequence[bool]
    ) -> tuple[float, list[bool]]:
        """Train on a batch, and go on to the next step's learning rate.

        Args:
            feed: this process's images by input name.
            frozen: whether ranges and batch-norm statistics stay as they are.
            flags: of this process.

        Returns: the loss, and of each flag whether it is set in any process.
        """
        programs = self._programs
        inputs = {name: feed[name] for name in programs.feeds}
        inputs.update(programs.teacher(feed))
        programs.rate.set_for_step(self._scope)
        if self._processes.world > 1:
            shared = self._shared[frozen]
            loss, *found = shared.run(
                self._processes, programs.executor, self._scope, inputs, programs.loss, flags
            )
        else:
            program = programs.frozen if frozen else programs.train
            (value,) = programs.executor.run(program, feed=inputs, fetch_list=[programs.loss])
            loss, found = float(np.asarray(value).reshape(-1)[0]), list(flags)
        programs.rate.step()
        return loss, found
