"""The device that paddle computes on."""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
from pathlib import Path
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils.paddle_version.self_test import require_known_paddle


def check_device(device: str) -> None:
    """Check that the GPUs of `device` exist; for `cpu` nothing is imported.

    Raises: `ConfigError` when paddle is built for CPU, or for a GPU that does not exist.
    """
    if device == "cpu":
        return
    import paddle

    if not paddle.device.is_compiled_with_cuda():
        raise ConfigError(
            f"--device {device}: the installed paddlepaddle is built for CPU; install paddlepaddle-gpu, "
            "or use --device cpu"
        )
    count = paddle.device.cuda.device_count()
    for index in device_ids(device):
        if index >= count:
            raise ConfigError(f"--device {device}: there is no GPU {index}, found {count}")


def device_ids(device: str) -> list[int]:
    """Indices of the GPUs named by `gpu` (0), `gpu:0` or `gpu:0,1`; none for `cpu`."""
    if device == "cpu":
        return []
    return [int(index) for index in (device.partition(":")[2] or "0").split(",")]


def use_device(device: str) -> None:
    """Make paddle compute on `device`; of several GPUs this process uses the first.

    The others are used when the command is started with `python -m paddle.distributed.launch`, which assigns
    a GPU to each process.
    """
    import paddle

    _restore_signal_handlers(paddle)
    require_known_paddle()
    ids = device_ids(device)
    if ids and rank_and_world()[1] > 1:
        ids = [paddle.distributed.ParallelEnv().device_id]
    paddle.device.set_device(f"gpu:{ids[0]}" if ids else "cpu")


def _restore_signal_handlers(paddle: Any) -> None:
    """Remove paddle's handler of SIGTERM, which would end the process with a trace of C++ calls.

    Python's own handlers have to be installed again: paddle replaced them without Python's knowledge.
    """
    paddle.disable_signal_handler()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler is not None:  # None: installed by another library's C code
                signal.signal(number, handler)


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes of `paddle.distributed.launch`; (0, 1) without it."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0")), int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def free_memory(memory: Path = _MEMORY, group: Path = _GROUP) -> int | None:
    """Bytes that processes may still take, caches included; None where the system does not say.

    Args:
        memory: where Linux says what the machine has free.
        group: where version 2 of its control groups says what a container may take.
    """
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", memory.read_text())
    except OSError:
        return None
    if found is None:
        return None
    free = int(found.group(1)) * 1024
    try:
        limit = int((group / "memory.max").read_text())  # "max" for none
        cached = re.search(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
        taken = int((group / "memory.current").read_text()) - (int(cached.group(1)) if cached else 0)
        return max(0, min(free, limit - taken))
    except (OSError, ValueError):
        return free


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended, of all their threads, since their start."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def available_cpus() -> int:
    """CPUs that this process may use; `paddle.distributed.launch`'s processes of a host divide its CPUs."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, found // _processes_here())


def _processes_here() -> int:
    """How many processes `paddle.distributed.launch` started on this host; its older form says only where all are."""
    if "PADDLE_LOCAL_SIZE" in os.environ:
        return int(os.environ["PADDLE_LOCAL_SIZE"])
    here = os.environ.get("PADDLE_CURRENT_ENDPOINT", "").rpartition(":")[0]
    everywhere = os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")
    return max(1, sum(one.rpartition(":")[0] == here for one in everywhere))
