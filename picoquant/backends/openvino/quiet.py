"""OpenVINO's package imported without its telemetry."""

from __future__ import annotations

import sys
from typing import Any

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """The package `openvino`.

    Importing it sends an event to its makers' statistics, unasked, unless `opt_in_out` was run before (`openvino/tools/
    ovc/__init__.py` of 2024.6 to 2026.4). Without its package for that it has a stub of its own in place; a process
    that has loaded that package itself is left as it is.
    """
    absent = "openvino" not in sys.modules and _TELEMETRY not in sys.modules
    if absent:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import openvino
    finally:
        if absent:
            del sys.modules[_TELEMETRY]
    return openvino
