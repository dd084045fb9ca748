"""How a process of `paddle.distributed.launch` joins the others, once in its life."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import socket
import time

from picoquant.errors import UserError
from picoquant.utils.device import rank_and_world
from picoquant.utils.group.watch import Watch

JOIN_SECONDS = 300.0  # for a host that starts later than the others
_PORT = "picoquant/watch"


@functools.cache
def joined() -> Watch:
    """Connect this process with all others, and watch them from then on; the same in every call.

    Raises: `UserError` when rank 0 cannot be reached, its port is in use, or the hosts cannot reach each other.
    """
    import paddle.distributed as dist
    from paddle.distributed import collective

    rank, world = rank_and_world()
    address, port = meeting_point()
    if rank:
        wait_for(address, port, rank)
    else:
        require_free(port)
    try:
        if not dist.is_initialized():
            dist.init_parallel_env()
        store = collective._default_store
        watch = Watch(rank, world, address, int(store.get(_PORT)) if rank else 0)
        if rank == 0:
            store.set(_PORT, str(watch.port))
        atexit.register(watch.leave)
        return watch
    except UserError:
        raise
    except Exception as error:  # Paddle's own, of several kinds
        reason = " ".join(str(error).split())[-200:]
        raise UserError(
            f"rank {rank} cannot join the other processes at {address}:{port} ({reason}): every host must reach the "
            "others by name or address; GLOO_SOCKET_IFNAME names the network interface to use"
        ) from error


def meeting_point() -> tuple[str, int]:
    """Host and port of rank 0's store, as the launcher tells them."""
    named = os.environ.get("PADDLE_MASTER") or os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")[0]
    address, _, port = named.rpartition(":")
    if not address or not port.isdigit():
        raise UserError(
            "PADDLE_TRAINERS_NUM is set, but neither PADDLE_MASTER nor PADDLE_TRAINER_ENDPOINTS names a host and a "
            "port: start several processes by python -m paddle.distributed.launch"
        )
    return address, int(port)


def require_free(port: int) -> None:
    """Raises: `UserError` when another program listens on the port that rank 0 is to listen on."""
    with contextlib.closing(socket.socket()) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except OSError as error:
            raise UserError(
                f"port {port}, which the processes are to meet at, cannot be used here ({error.strerror}): start again "
                "(the launcher chooses another), or give a free one"
            ) from error


def wait_for(address: str, port: int, rank: int, seconds: float = JOIN_SECONDS) -> None:
    """Wait until rank 0 listens.

    Raises: `UserError` when it does not in `seconds`.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= end:
                raise UserError(
                    f"rank {rank} found nobody at {address}:{port} in {seconds:g} s ({error.strerror or error}): rank "
                    "0 is to listen there; look at its log, and whether a firewall is between the hosts"
                ) from error
            time.sleep(0.2)
