"""The processes of a quantisation, started by `python -m paddle.distributed.launch`; one where it runs alone."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.distributed as dist

from picoquant.utils.process_group import Group


class Processes:
    """Communication between the processes, usable within a static session; must be created outside of one.

    Every method must be called by all processes, in the same order.

    Attributes:
        rank: this process's number, from 0.
        world: number of processes.
        is_rank_0: whether this process calibrates, evaluates, writes and logs.
    """

    def __init__(self) -> None:
        self._group = Group()
        self.rank, self.world, self.is_rank_0 = self._group.rank, self._group.world, self._group.is_rank_0

    def barrier(self) -> None:
        """Wait, however long, until all processes are here."""
        self._group.barrier()

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The elementwise mean of an array over all processes, float32."""
        return self._reduced(values, dist.ReduceOp.SUM) / self.world

    def max(self, values: np.ndarray) -> np.ndarray:
        """The elementwise maximum of an array over all processes, float32."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def broadcast(self, content: bytes | None) -> bytes:
        """Rank 0's content, in every process, however long rank 0 takes to produce it.

        Args:
            content: in rank 0, what is sent; elsewhere ignored.
        """
        self._group.barrier()
        with paddle.base.dygraph.guard():
            return self._group.broadcast(content)

    def gather(self, content: bytes) -> list[bytes]:
        """The contents of all processes, by rank, in every one of them, however long some take to produce theirs."""
        self._group.barrier()
        with paddle.base.dygraph.guard():
            return self._group.gather(content)

    def _reduced(self, values: np.ndarray, how: int) -> np.ndarray:
        with paddle.base.dygraph.guard():
            total = paddle.to_tensor(np.asarray(values, np.float32))
            dist.all_reduce(total, how)
            return total.numpy()
