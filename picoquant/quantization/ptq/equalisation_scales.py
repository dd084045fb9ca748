"""What equalisation multiplied the stored variables by, kept beside a student."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from picoquant.storage.files import whole_file

FILE = "weight_scales.npz"


def write_scales(folder: Path, scales: Mapping[str, np.ndarray]) -> None:
    """Keep the factors of stored variables beside a student's files."""
    with whole_file(folder / FILE, "wb") as stream:
        np.savez(stream, **scales)


def read_scales(folder: Path) -> dict[str, np.ndarray]:
    """The factors of stored variables of a student; none for a network that is as it was exported."""
    if not (folder / FILE).is_file():
        return {}
    with np.load(folder / FILE) as arrays:
        return dict(arrays)
