"""What equalisation multiplied the stored variables by, kept beside a student's model files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from picoquant.storage.files import whole_file

FILE = "weight_scales.npz"


def write_scales(folder: Path, scales: Mapping[str, np.ndarray]) -> None:
    """Write the factors.

    Args:
        folder: the student's.
        scales: by stored variable, in a shape that broadcasts to the variable's.
    """
    with whole_file(folder / FILE, "wb") as stream:
        np.savez(stream, **scales)


def read_scales(folder: Path) -> dict[str, np.ndarray]:
    """The factors by stored variable, see `write_scales`; empty for a folder that has none."""
    if not (folder / FILE).is_file():
        return {}
    with np.load(folder / FILE) as arrays:
        return dict(arrays)
