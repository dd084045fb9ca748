"""What of this machine a training may use."""

from __future__ import annotations

from dataclasses import dataclass

from picoquant.utils.device import available_cpus, free_memory


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
