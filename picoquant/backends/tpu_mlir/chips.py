"""The processors that `.cvimodel` files are made for."""

from __future__ import annotations

from picoquant.errors import ToolError
from picoquant.targets.profiles import Target

CHIPS = ("cv180x", "cv181x", "cv182x", "cv183x")  # TPU-MLIR's names
DEFAULT = "cv181x"  # for this machine's C model


def chip_of(target: Target | None) -> str:
    """TPU-MLIR's name of a target's processor, which is the name of its SoC; `DEFAULT` for None.

    Raises: `ToolError` for one that no `.cvimodel` is made for.
    """
    if target is None:
        return DEFAULT
    name = target.soc.lower()
    if name not in CHIPS:
        raise ToolError(
            f"TPU-MLIR makes no .cvimodel for {target.soc}: `soc` in the profile of {target.name} must be one of "
            f"{', '.join(CHIPS)}"
        )
    return name
