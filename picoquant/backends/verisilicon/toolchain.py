"""VeriSilicon's emulator: found where `picoquant toolchain install verisilicon` has put it."""

from __future__ import annotations

import difflib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from picoquant.backends.base import Machine
from picoquant.backends.homes import tool_homes
from picoquant.backends.own_environment.installing import COMPLETE
from picoquant.backends.verisilicon.install import REQUIREMENT, SDK, install_emulator, installed_version
from picoquant.errors import ToolError
from picoquant.targets.profile_files import known_targets
from picoquant.targets.profiles import Target, load_target

LOG = logging.getLogger("picoquant")

TITLE = "VeriSilicon emulator"
DISTRIBUTIONS = ()  # none of this environment

_NAMES = re.compile(rb"VIP[A-Z0-9_]+_PID0X[0-9A-F]+")  # of NPUs, in the emulator's library
_SHOWN = 3  # names that are near to one that is not known


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
    def sdk(self) -> Path:
        """The folder with its libraries."""
        return self.path / SDK


def find(machine: Machine, to_run: bool = False) -> Emulator:
    """The emulator; see `base.Toolchain`.

    Raises: `ToolError` saying what to do when it is not there, or damaged. Warns of a version that is not the one that
        picoquant was tried with.
    """
    for home in tool_homes("verisilicon"):
        if (home / COMPLETE).is_file():
            version, tried = installed_version(home), REQUIREMENT.partition("==")[2]
            if version != tried:
                LOG.warning(
                    "VeriSilicon's emulator in %s is that of acuitylite %s, picoquant was tried with %s: its integers "
                    "and cycles may be others; delete that folder and install it again for the latter",
                    home,
                    version,
                    tried,
                )
            return Emulator(version, home)
    raise ToolError(
        "VeriSilicon's emulator is not installed: run `picoquant toolchain install verisilicon --accept-licence`"
    )


def install(accepted: bool) -> str:
    """Fetch and build it, see `install_emulator`; returns a line that says what is ready and where."""
    return install_emulator(accepted)


def chip_of(target: Target, tool: Emulator) -> str:
    """What the emulator calls the NPU of a target, as its profile names it.

    Raises: `ToolError` for a target without such a name, and for one that this emulator does not know: both say what
        is simulated instead.
    """
    instead = (
        f"`picoquant eval --target {target.name}` without --emulator simulates the profile's rules instead"
    )
    shipped = [load_target(name) for name in known_targets()]
    have = {one.name: one.verisilicon.chip for one in shipped if one.verisilicon}
    if target.verisilicon is None:
        raise ToolError(
            f"VeriSilicon's emulator has no NPU of {target.name}: it has those of {', '.join(have)}; {instead}"
        )
    chip, known = target.verisilicon.chip, known_chips(tool)
    if chip not in known:
        near = difflib.get_close_matches(chip, known, _SHOWN, 0.0)
        told = ", ".join(f"{name} {one}" for name, one in have.items())
        raise ToolError(
            f"VeriSilicon's emulator knows no chip {chip}, which the profile of {target.name} names: it knows "
            f"{len(known)}, the nearest {', '.join(near)}; those of shipped targets are {told}; {instead}"
        )
    if not target.verisilicon.confirmed:
        LOG.warning("%s: that its NPU is %s is not confirmed by any public source", target.name, chip)
    return chip


def known_chips(tool: Emulator) -> list[str]:
    """The NPUs that an installed emulator has, by its own names, sorted."""
    library = tool.sdk / "lib" / "libEmulator.so"
    try:
        return sorted({name.decode() for name in _NAMES.findall(library.read_bytes())})
    except OSError as error:
        raise ToolError(
            f"{library} cannot be read ({error.strerror}): delete {tool.path} and run "
            "`picoquant toolchain install verisilicon --accept-licence` again"
        ) from error
