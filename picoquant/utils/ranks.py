"""The processes of `paddle.distributed.launch`, on one host or several, which work together in one stage.

Rank 0 owns the run folder: it checks the data, or generates it where requested, determines whether the stage
is needed, and writes. The others wait for its call, and write nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from picoquant.errors import PicoquantError, UserError
from picoquant.utils.device import rank_and_world, use_device
from picoquant.utils.group.join import joined
from picoquant.utils.group.same import require_same

LOG = logging.getLogger("picoquant")

_NOTICED = 5.0  # seconds after the failure of an operation within which its cause is known


@contextmanager
def together(device: str) -> Iterator[None]:
    """Within the block this process works with the others; with a single process nothing is done.

    Where one of them fails, the others end with one line that says which, and why. Ranks other than 0 log warnings
    only.

    Args:
        device: `cpu`, `gpu` or `gpu:0,1`.

    Raises: what the block raises; `UserError` when the processes cannot meet; `LostProcessError` when one is gone.
    """
    rank, world = rank_and_world()
    if world == 1:
        yield
        return
    if rank:
        LOG.setLevel(max(LOG.level, logging.WARNING))
    use_device(device)
    watch = joined()
    try:
        yield
    except BaseException as error:
        said = str(error) if isinstance(error, PicoquantError) else f"{type(error).__name__} {error}".strip()
        try:
            if not isinstance(error, UserError) and isinstance(error, Exception):
                watch.wait(_NOTICED)  # an operation of gloo fails where another process is gone
        finally:
            watch.leave(said)
        raise
    watch.leave()


def call_helpers(inputs: Mapping[str, Any] | None) -> None:
    """Called by rank 0: send the other processes, if there are any, whether a stage is needed.

    Args:
        inputs: what the stage's result depends on, compared with what the others find; None: the stage is not needed.

    Raises: as `require_same`.
    """
    if rank_and_world()[1] == 1:
        return
    from picoquant.utils.process_group import Group

    group = Group()
    group.barrier()
    group.broadcast(b"" if inputs is None else b"needed")
    if inputs is not None:
        require_same(group, lambda: inputs)


def called(inputs: Callable[[], Mapping[str, Any]]) -> bool:
    """Called by the other ranks: wait for the call of rank 0.

    Args:
        inputs: finds what the stage's result depends on.

    Returns: whether the stage is needed.

    Raises: as `require_same`; `LostProcessError` when rank 0 is gone.
    """
    from picoquant.utils.process_group import Group

    group = Group()
    group.barrier()
    if not group.broadcast(None):
        return False
    require_same(group, inputs)
    return True


def compare(inputs: Callable[[], Mapping[str, Any]]) -> None:
    """Called by all processes, if there are several: see `require_same`."""
    if rank_and_world()[1] > 1:
        from picoquant.utils.process_group import Group

        group = Group()
        group.barrier()
        require_same(group, inputs)
