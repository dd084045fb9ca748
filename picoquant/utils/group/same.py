"""Whether all processes were started with the same versions, settings and data."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from picoquant.errors import PicoquantError, UserError
from picoquant.utils.versions import versions

_PACKAGES = ("picoquant", "paddlepaddle", "numpy")
_DIGITS = 12
_SHARED = (
    "; every host needs the run folder, the data and the weights under the same names (a shared file system)"
)


class Gathers(Protocol):
    """What collects texts of all processes; `process_group.Group` is one."""

    def gather(self, content: bytes) -> list[bytes]:
        """One content of each process, in the order of their ranks."""


def require_same(group: Gathers, inputs: Callable[[], Mapping[str, Any]]) -> None:
    """Compare this process with the others; all must call it.

    Args:
        group: all processes.
        inputs: what this process's result depends on, JSON-able, by name.

    Raises: `UserError` in every process, naming the first that differs from rank 0 and in what, or what it cannot find.
    """
    found: dict[str, Any] = {"host": socket.gethostname(), "versions": versions(_PACKAGES)}
    try:
        found["inputs"] = {name: _digest(value) for name, value in inputs().items()}
    except PicoquantError as error:
        found["error"] = str(error)
    told = [json.loads(text) for text in group.gather(json.dumps(found).encode())]
    difference = first_difference(told)
    if difference:
        raise UserError(difference)


def first_difference(told: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with the processes' answers, by rank; None: they agree."""
    for rank, one in enumerate(told):
        if "error" in one:
            said = f"rank {rank} on {one['host']}: {one['error']}"
            return f"{said}{_SHARED}" if rank else said
    first = told[0]
    for rank, one in enumerate(told[1:], start=1):
        who = f"rank {rank} on {one['host']} differs from rank 0 on {first['host']}"
        for name, version in first["versions"].items():
            if one["versions"].get(name) != version:
                other = one["versions"].get(name)
                return f"{who}: {name} {other} there, {version} on rank 0; install the same version on every host"
        names = sorted({*first["inputs"], *one["inputs"]})
        differing = [name for name in names if first["inputs"].get(name) != one["inputs"].get(name)]
        if differing:
            return (
                f"{who} in: {', '.join(differing)}; every host needs the same recipe, data set and model files (by "
                "content; run.json names these inputs)"
            )
    return None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]
