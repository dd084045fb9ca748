"""The processes that train together, started by `python -m paddle.distributed.launch`.

Gradients are averaged here rather than by `paddle.DataParallel`, which covers a network's `forward`
alone: a detector's loss is another method. Batch-norm statistics are not averaged, as with `DataParallel`;
`training.joint_batch_norm` does it, where it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import Tensor
from paddle.distributed import collective

from picoquant.utils.device import rank_and_world
from picoquant.utils.group.join import joined

_BARRIER = "picoquant/meetings"  # a counter in the store of all processes


class Group:
    """All processes of this training; a single one when it was started without the launcher.

    All of them must create their groups, and call the groups' methods, in the same order.

    Attributes:
        rank: this process's number, from 0.
        world: number of processes.
        is_rank_0: whether this is the process that writes and logs.
    """

    def __init__(self) -> None:
        self.rank, self.world = rank_and_world()
        self.is_rank_0 = self.rank == 0
        self._failed: Exception | None = None
        self._watch = joined() if self.world > 1 else None
        self._barriers, self._counter = 0, _BARRIER
        if self.world > 1:  # each group has its own counter: an earlier group's is not at 0
            groups = collective._default_store.add(f"{_BARRIER}/groups of {self.rank}", 1)
            self._counter = f"{_BARRIER}/{groups}"

    def fail(self, error: Exception) -> None:
        """Keep an error that cannot be raised where it occurs, within a static graph; `check` raises the first."""
        self._failed = self._failed or error

    def check(self) -> None:
        """Raises: what `fail` was called with."""
        if self._failed is not None:
            raise self._failed

    def barrier(self) -> None:
        """Wait, without a time limit, until all processes have called this.

        A collective operation of gloo, paddle's backend on CPU, fails after 30 s, and an evaluation by rank 0
        takes longer than that. The barrier itself takes about 0.1 s.

        Raises: `LostProcessError` when a process is gone.
        """
        if self._watch is None:
            return
        store, self._barriers = collective._default_store, self._barriers + 1
        store.add(self._counter, 1)
        pause, began = 0.001, time.monotonic()
        while store.add(self._counter, 0) < self._barriers * self.world:
            self._watch.wait_for_all(pause, time.monotonic() - began)
            pause = min(2 * pause, 0.1)

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over all processes, in float32.

        Raises: as `check`.
        """
        self.check()
        if self.world == 1:
            return list(values)
        total = paddle.to_tensor(np.asarray(values, "float32"))
        dist.all_reduce(total)
        return [float(value) / self.world for value in total.numpy()]

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The elementwise sum of a float64 array over all processes; usable within a static graph's operators."""
        if self.world == 1:
            return values
        total = paddle.to_tensor(np.asarray(values, "float64"))
        dist.all_reduce(total)
        return total.numpy()

    def rows(self, values: np.ndarray) -> np.ndarray:
        """The float64 arrays `[n]` of all processes, `[world, n]`, in less time than their sum."""
        if self.world == 1:
            return values[None]
        own = paddle.to_tensor(np.asarray(values, "float64"))
        found = paddle.empty([self.world, len(values)], "float64")
        dist.stream.all_gather(found, own)
        return found.numpy()

    @paddle.no_grad()
    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace each gradient by its mean over all processes, with a single all-reduce.

        In a process where a parameter has no gradient, the gradient counts as 0; a parameter without a
        gradient in any process is left without one.
        """
        if self.world == 1:
            return
        self.check()
        present = [value.grad is not None for value in parameters]
        parts = [
            value.grad.flatten() if has else paddle.zeros([value.size], value.dtype)
            for value, has in zip(parameters, present)
        ]
        fused = paddle.concat([*parts, paddle.to_tensor(np.asarray(present, parts[0].numpy().dtype))])
        dist.all_reduce(fused)
        counts = fused[-len(present) :].numpy()  # how many processes have each gradient
        means = paddle.split(fused[: -len(present)] / self.world, [value.size for value in parameters])
        for value, mean, count in zip(parameters, means, counts):
            if count:
                value.grad = mean.reshape(value.shape)

    def broadcast(self, content: bytes | None) -> bytes:
        """The `content` of rank 0, returned in every process; the others' arguments are ignored."""
        if self.world == 1:
            return content or b""
        size = paddle.to_tensor([len(content or b"")], "int64")
        dist.broadcast(size, 0)
        array = (
            np.frombuffer(content, "uint8") if self.is_rank_0 and content else np.zeros(size.item(), "uint8")
        )
        if not len(array):
            return b""
        tensor = paddle.to_tensor(array)
        dist.broadcast(tensor, 0)
        return tensor.numpy().tobytes()

    def gather(self, content: bytes) -> list[bytes]:
        """The contents of all processes, in the order of their ranks, in every process."""
        if self.world == 1:
            return [content]
        sizes: list[Tensor] = []
        dist.all_gather(sizes, paddle.to_tensor([len(content)], "int64"))
        lengths = [int(size.item()) for size in sizes]
        padded = np.zeros(max(max(lengths), 1), "uint8")
        padded[: len(content)] = np.frombuffer(content, "uint8")
        parts: list[Tensor] = []
        dist.all_gather(parts, paddle.to_tensor(padded))
        return [part.numpy()[:length].tobytes() for part, length in zip(parts, lengths)]
