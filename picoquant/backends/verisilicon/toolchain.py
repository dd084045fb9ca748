"""VeriSilicon's emulator: found where `picoquant toolchain install verisilicon` has put it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from picoquant.backends.base import Machine
from picoquant.backends.homes import tool_homes
from picoquant.backends.verisilicon.install import COMPLETE, RUNNER, SDK, install_emulator
from picoquant.errors import ToolError

TITLE = "VeriSilicon emulator"
DISTRIBUTIONS = ()  # none of this environment

# What the emulator calls the NPU of a target. RV1109's and RV1126's are not in it; RK1808's is not known for sure.
CHIPS = {
    "a311d": "VIPNANOQI_PID0X88",
    "s905d3": "VIPPICO_V3_PID0X99",
    "imx8mp": "VIP8000NANOSI_PLUS_PID0X9F",
    "c308x": "VIPNANOQI_PID0XA1",
    "rk1808": "VIPNANOQI_PID0X7D",
}
UNCONFIRMED = frozenset({"c308x", "rk1808"})


@dataclass(frozen=True)
class Emulator:
    """The emulator that was found; see `base.Found`.

    Attributes:
        version: of the package that it comes from.
        path: its folder.
        origin: how it was found.
    """

    version: str
    path: Path
    origin: str = "picoquant's own folder"

    @property
    def program(self) -> Path:
        """The program that runs networks on it."""
        return self.path / RUNNER

    @property
    def sdk(self) -> Path:
        """The folder with its libraries."""
        return self.path / SDK


def find(machine: Machine, to_run: bool = False) -> Emulator:
    """The emulator; see `base.Toolchain`.

    Raises: `ToolError` saying what to do when it is not there.
    """
    for home in tool_homes("verisilicon"):
        if (home / COMPLETE).is_file():
            package = json.loads((home / COMPLETE).read_text(encoding="utf-8"))["package"]
            return Emulator(package.partition("==")[2], home)
    raise ToolError(
        "VeriSilicon's emulator is not installed: run `picoquant toolchain install verisilicon --accept-licence`"
    )


def install(accepted: bool) -> str:
    """Fetch and build it, see `install_emulator`; returns a line that says what is ready and where."""
    return install_emulator(accepted)


def chip_of(target: str) -> str:
    """What the emulator calls the NPU of a target.

    Raises: `ToolError` for a target whose NPU it does not have.
    """
    if target not in CHIPS:
        raise ToolError(
            f"VeriSilicon's emulator has no NPU of {target}: it has those of {', '.join(CHIPS)}; "
            f"`picoquant eval --target {target}` simulates its rules instead"
        )
    return CHIPS[target]
