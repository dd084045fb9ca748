"""The processes beside the first of a group (`paddle.distributed.launch`), which help it in one stage.

The first process owns the run folder: it checks the data, and generates it where that was asked for, finds out
whether the stage is needed, and writes. The others wait for its call, and write nothing.
"""

from __future__ import annotations

import logging

from picoquant.utils.device import rank_and_world, use_device

LOG = logging.getLogger("picoquant")


def call_helpers(device: str, needed: bool) -> None:
    """Tell the other processes, if there are any, whether there is something to do.

    Args:
        device: `cpu`, `gpu` or `gpu:0,1`.
        needed: whether the other processes have something to do.
    """
    if rank_and_world()[1] == 1:
        return
    from picoquant.utils.process_group import Group

    use_device(device)
    group = Group()
    group.barrier()
    group.broadcast(b"needed" if needed else b"")


def called(device: str) -> bool:
    """Wait for the first process's call; whether there is something to do. From now on only warnings are logged."""
    from picoquant.utils.process_group import Group

    LOG.setLevel(max(LOG.level, logging.WARNING))
    use_device(device)
    group = Group()
    group.barrier()
    return bool(group.broadcast(None))
