"""The chips that esp-ppq makes `.espdl` files for."""

from __future__ import annotations

from picoquant.errors import ToolError
from picoquant.targets.profiles import Target

CHIPS = ("esp32p4", "esp32s3")  # esp-ppq's names; esp32s3 takes one scale for a whole weight
DEFAULT = "esp32p4"  # executed where no board is named


def chip_of(target: Target | None) -> str:
    """esp-ppq's name of a target's chip; `DEFAULT` for None.

    Raises: `ToolError` for a chip that picoquant makes no `.espdl` for.
    """
    if target is None:
        return DEFAULT
    name = target.soc.lower().replace("-", "")
    if name not in CHIPS:
        raise ToolError(
            f"no .espdl is made for {target.soc}: `soc` in the profile of {target.name} must be one of "
            f"{', '.join(CHIPS)}"
        )
    return name
