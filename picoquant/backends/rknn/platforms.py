"""The chips that rknn-toolkit2 builds for. RV1109, RV1126 and RK1808 are rknn-toolkit 1.x's, `packaging/rknn.py`."""

from __future__ import annotations

from picoquant.errors import ToolError
from picoquant.targets.profiles import Target

PLATFORMS = (
    "rk3562",
    "rk3566",
    "rk3568",
    "rk3576",
    "rk3588",
    "rv1103",
    "rv1106",
    "rv1126b",
)  # the toolkit's names
DEFAULT = "rk3588"  # simulated where no board is named


def platform_of(target: Target | None) -> str:
    """The toolkit's name of a target's chip, which is the name of its SoC; `DEFAULT` for None.

    Raises: `ToolError` for a chip that the toolkit does not build for.
    """
    if target is None:
        return DEFAULT
    name = target.soc.lower()
    if name not in PLATFORMS:
        raise ToolError(
            f"rknn-toolkit2 builds nothing for {target.soc}: `soc` in the profile of {target.name} must be one of "
            f"{', '.join(PLATFORMS)}"
        )
    return name
