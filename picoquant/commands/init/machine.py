"""What of this machine a training may use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from picoquant.utils.device import available_cpus

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")  # of version 2, as a container sees its own


@dataclass(frozen=True)
class Machine:
    """What is there now.

    Attributes:
        cpus: that this process may use.
        free: bytes of memory that are free, within a container's limit; None where nothing says so.
    """

    cpus: int
    free: int | None

    @property
    def text(self) -> str:
        """`2 CPUs, 12.3 GB of free memory`."""
        cpus = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        return cpus if self.free is None else f"{cpus}, {self.free / 1e9:.1f} GB of free memory"


def this_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(available_cpus(), free_memory())


def free_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Bytes that are free, as Linux says it, and at most what a container's limit leaves; None: not known."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", _read(meminfo))
    limit, used = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    known = [int(found.group(1)) * 1024] if found else []
    if limit.isdecimal() and used.isdecimal():
        files = re.search(r"^inactive_file (\d+)$", _read(cgroup / "memory.stat"), re.MULTILINE)
        cached = int(files.group(1)) if files else 0  # given back when memory is short
        known.append(max(0, int(limit) - int(used) + cached))
    return min(known) if known else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
