"""What oneDNN keeps for each size of images, given back when memory runs short.

Paddle's oneDNN convolutions keep copies of what they convert between memory layouts, for every shape that they have
seen, until the executor of their graph ends: a training whose batches have five sizes holds the copies of all five.
PicoDet-S-NPU, 4 images of 352 to 480 px: 4.4 GB, and 2.1 GB when they are given back in time. Making an executor anew
takes about 0.3 s; what is computed stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paddle.base import core

from picoquant.utils.device import free_memory

_SHARE_OF_FIRST = 0.5  # of what the first step takes, at most that much was copies
_LARGER = 2  # the next size may have that many times as many pixels


class KeptMemory:
    """Watches the machine's free memory over the steps of a training; its other processes take theirs meanwhile.

    Args:
        free: bytes that processes may still take, None where that is unknown: then nothing is ever given back.
        give_back: ends the executors of all graphs of this process.
    """

    def __init__(
        self,
        free: Callable[[], int | None] = free_memory,
        give_back: Callable[[], None] = core.clear_executor_cache,
    ) -> None:
        self._free, self._give_back = free, give_back
        self._seen: set[tuple[int, ...]] = set()
        self._need = self._learnt = 0
        self._before: int | None = None

    def before_step(self, shape: Sequence[int]) -> None:
        """Give everything back if copies for images of a new shape `[N, C, H, W]` might not fit."""
        now, new = self._free(), tuple(shape) not in self._seen
        if now is not None and self._before is not None:
            self._learn(max(0, self._before - now))
        self._before = None
        if not new:
            return
        if now is not None and self._seen and now <= _LARGER * self._need:
            self._give_back()
            self._seen.clear()
        self._seen.add(tuple(shape))
        self._before = now

    def _learn(self, taken: int) -> None:
        """Note what a step with a new shape has taken."""
        if self._learnt == 0:
            self._need = int(_SHARE_OF_FIRST * taken)
        else:
            self._need = taken if self._learnt == 1 else max(self._need, taken)
        self._learnt += 1
