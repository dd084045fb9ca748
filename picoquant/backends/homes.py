"""Where picoquant keeps tools that it installs in environments of their own."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "PICOQUANT_HOME"


def tool_homes(name: str) -> list[Path]:
    """Folders in which a tool may be; it is made at the first: `$PICOQUANT_HOME`, a checkout, the user's data folder.

    Args:
        name: of the tool's folder.
    """
    homes = []
    if os.environ.get(HOME_VARIABLE):
        homes.append(Path(os.environ[HOME_VARIABLE]).expanduser() / "toolchain")
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "setup.cfg").is_file():
        homes.append(checkout / ".toolchain")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    homes.append(Path(data).expanduser() / "picoquant" / "toolchain")
    return [home.absolute() / name for home in homes]
