"""The processes of other ranks than 0 (`paddle.distributed.launch`), which take part in a stage only.

Rank 0 owns the run folder: it checks the data, or generates it where requested, determines whether the stage
is needed, and writes. The others wait for its call, and write nothing.
"""

from __future__ import annotations

import logging

from picoquant.utils.device import rank_and_world, use_device

LOG = logging.getLogger("picoquant")


def call_helpers(device: str, needed: bool) -> None:
    """Called by rank 0: send the other processes, if there are any, whether the stage is needed.

    Args:
        device: `cpu`, `gpu` or `gpu:0,1`.
        needed: whether the stage is needed.
    """
    if rank_and_world()[1] == 1:
        return
    from picoquant.utils.process_group import Group

    use_device(device)
    group = Group()
    group.barrier()
    group.broadcast(b"needed" if needed else b"")


def called(device: str) -> bool:
    """Called by the other ranks: wait for the call of rank 0.

    From then on this process logs warnings only.

    Returns: whether the stage is needed.
    """
    from picoquant.utils.process_group import Group

    LOG.setLevel(max(LOG.level, logging.WARNING))
    use_device(device)
    group = Group()
    group.barrier()
    return bool(group.broadcast(None))
