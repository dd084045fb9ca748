"""The backends by name. A new one is a folder and a line here; docs/backends.md says what is in the folder."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from picoquant.backends.base import Backend

# Name -> folder, whose `BACKENDS` describes it; in the order of tables.
BACKENDS: Mapping[str, str] = {
    "paddle": "picoquant.backends.paddle",
    "paddle-no-onednn": "picoquant.backends.paddle",
    "onnx": "picoquant.backends.onnx",
    "lite": "picoquant.backends.paddle_lite",
}

DYGRAPH = "dygraph"  # no backend: the trained network itself, which runs without files
REFERENCE = "paddle"  # what the others are compared with; it runs the model that all others are made from


def load_backend(name: str, known: Mapping[str, str] = BACKENDS) -> Backend:
    """A backend's description.

    Args:
        name: a key of `known`.
        known: the backends.
    """
    return next(one for one in importlib.import_module(known[name]).BACKENDS if one.name == name)


def load_backends(known: Mapping[str, str] = BACKENDS) -> list[Backend]:
    """The descriptions of all, in order."""
    return [load_backend(name, known) for name in known]
