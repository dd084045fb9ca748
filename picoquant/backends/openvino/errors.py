"""OpenVINO's exceptions in one line."""

from __future__ import annotations

import re

_PLACE = re.compile(r"^(Exception from \S+|Check '.*' failed at \S+):?\s*$")


def reason(error: Exception) -> str:
    """The line of an exception that says what is wrong: those before it say where in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not _PLACE.match(line)]
    return (telling or lines or [type(error).__name__])[0]
