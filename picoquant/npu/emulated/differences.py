"""How many values of the emulator differ from the simulation's, tensor by tensor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picoquant.storage.files import write_text

LOG = logging.getLogger("picoquant")


@dataclass
class Difference:
    """How a tensor of the emulator differs from the simulation's, over all images.

    Attributes:
        values: how many were compared.
        differing: how many of them differ.
        largest: the largest difference, in levels.
    """

    values: int = 0
    differing: int = 0
    largest: int = 0

    def add(self, found: np.ndarray, simulated: np.ndarray) -> None:
        """Compare one image more."""
        off = np.abs(found.astype(np.int32) - simulated.reshape(found.shape))
        self.values += off.size
        self.differing += int(np.count_nonzero(off))
        self.largest = max(self.largest, int(off.max(initial=0)))


def said_of(differences: Mapping[str, Difference], simulation: str) -> str:
    """One line on all tensors together: how many values differ from those of the `simulation`, and by how much."""
    values = sum(one.values for one in differences.values())
    differing = sum(one.differing for one in differences.values())
    largest = max((one.largest for one in differences.values()), default=0)
    said = f"{differing:,} of {values:,} values differ from {simulation}"
    return said + (f", by up to {largest} level{'s' * (largest > 1)}" if differing else "")


def write_differences(differences: Mapping[str, Difference], path: Path) -> None:
    """Write a CSV file: a line for each tensor, in the network's order."""
    lines = [f"{name},{one.values},{one.differing},{one.largest}" for name, one in differences.items()]
    write_text(path, "\n".join(["tensor,values,differing,largest", *lines]) + "\n")
    LOG.info("written: %s", path)
