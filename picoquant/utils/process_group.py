"""The processes that train together, started by `python -m paddle.distributed.launch`.

Gradients are averaged here rather than by `paddle.DataParallel`, which covers a network's `forward`
alone: a detector's loss is another method. Batch-norm statistics are each process's own, as there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import Tensor, nn
from paddle.distributed import collective

from picoquant.utils.device import rank_and_world

LOG = logging.getLogger("picoquant")

_MEETING = "picoquant/meetings"  # a counter that the processes share


class Group:
    """All processes of this training; of one process when it was started alone.

    Groups must be made, and their methods called, by all of them in the same order.

    Attributes:
        rank: this process's number, from 0.
        world: how many there are.
        leads: whether this is the process that evaluates, writes and logs.
    """

    def __init__(self) -> None:
        self.rank, self.world = rank_and_world()
        self.leads = self.rank == 0
        if self.world > 1 and not dist.is_initialized():
            dist.init_parallel_env()
        self._meetings, self._counter = 0, _MEETING
        if self.world > 1:  # counts its own meetings: an earlier group of these processes has had some
            made = collective._default_store.add(f"{_MEETING}/groups of {self.rank}", 1)
            self._counter = f"{_MEETING}/{made}"

    def meet(self) -> None:
        """Wait, however long, until all processes are here.

        A collective operation of gloo, paddle's backend on CPU, gives up after 30 s; an evaluation
        takes the leading process longer than that. A meeting itself takes about 0.1 s.
        """
        if self.world == 1:
            return
        store, self._meetings = collective._default_store, self._meetings + 1
        store.add(self._counter, 1)
        pause = 0.001
        while store.add(self._counter, 0) < self._meetings * self.world:
            time.sleep(pause)
            pause = min(2 * pause, 0.1)

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over all processes of each value."""
        if self.world == 1:
            return list(values)
        total = paddle.to_tensor(np.asarray(values, "float32"))
        dist.all_reduce(total)
        return [float(value) / self.world for value in total.numpy()]

    @paddle.no_grad()
    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace each gradient by its mean over all processes, in one exchange.

        A process where a parameter has no gradient counts as 0; where none has one there is none.
        """
        if self.world == 1:
            return
        there = [value.grad is not None for value in parameters]
        parts = [
            value.grad.flatten() if has else paddle.zeros([value.size], value.dtype)
            for value, has in zip(parameters, there)
        ]
        fused = paddle.concat([*parts, paddle.to_tensor(np.asarray(there, parts[0].numpy().dtype))])
        dist.all_reduce(fused)
        having = fused[-len(there) :].numpy()
        means = paddle.split(fused[: -len(there)] / self.world, [value.size for value in parameters])
        for value, mean, count in zip(parameters, means, having):
            if count:
                value.grad = mean.reshape(value.shape)

    def share(self, content: bytes | None) -> bytes:
        """The leading process's `content`, in every process."""
        if self.world == 1:
            return content or b""
        size = paddle.to_tensor([len(content or b"")], "int64")
        dist.broadcast(size, 0)
        array = np.frombuffer(content, "uint8") if self.leads and content else np.zeros(int(size), "uint8")
        if not len(array):
            return b""
        shared = paddle.to_tensor(array)
        dist.broadcast(shared, 0)
        return shared.numpy().tobytes()


def synchronised(model: nn.Layer) -> nn.Layer:
    """The network with batch norm over the images of all processes, under the same names.

    On CPU the network stays as it is, and the log says so: paddle 2.6 has no CPU kernel
    `sync_batch_norm`.
    """
    if paddle.get_device() == "cpu":
        LOG.warning("train: norm_type sync_bn: paddle has none on CPU; each process has its own statistics")
        return model
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)
