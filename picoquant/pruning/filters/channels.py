"""Which channels of a network must be removed together.

Every channel has a number. Channels that a network ties to each other (by a sum, a depthwise convolution, a batch norm
…) are joined; each set of joined channels is removed as a whole, with all rows of weights that belong to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

NONE = -1  # in place of a channel's number: a value that belongs to no channel


class Row(NamedTuple):
    """A part of a stored tensor.

    Attributes:
        name: of the tensor.
        axis, position: which row of it.
    """

    name: str
    axis: int
    position: int


class Channels:
    """The channels of a network, joined step by step."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._rows: list[list[Row]] = []
        self._kept: set[int] = set()

    def new(self, count: int) -> np.ndarray:
        """Numbers of channels that belong to nothing yet, `[count]`."""
        start = len(self._parents)
        self._parents += range(start, start + count)
        self._rows += [[] for _ in range(count)]
        return np.arange(start, start + count)

    def new_rows(self, name: str, axis: int, count: int) -> np.ndarray:
        """Channels that are the rows of a stored tensor along an axis, `[count]`."""
        numbers = self.new(count)
        self.add_rows(numbers, name, axis)
        return numbers

    def add_rows(self, numbers: Iterable[int], name: str, axis: int) -> None:
        """Let row `i` of a stored tensor belong to the channel `numbers[i]`; rows of `NONE` are always kept."""
        for index, number in enumerate(numbers):
            if number != NONE:
                self._rows[number].append(Row(name, axis, index))

    def root(self, number: int) -> int:
        """The number that stands for all channels joined with one."""
        path = []
        while self._parents[number] != number:
            path.append(number)
            number = self._parents[number]
        for one in path:
            self._parents[one] = number
        return number

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Join channels pair by pair; a pair with `NONE` keeps its other channel as it is.

        Args:
            first, second: of one shape.
        """
        pairs = np.unique(np.stack([np.ravel(first), np.ravel(second)], axis=1), axis=0)
        for one, other in pairs.tolist():
            if NONE in (one, other) or one == other:
                continue
            low, high = sorted((self.root(one), self.root(other)))
            self._parents[high] = low

    def keep(self, numbers: np.ndarray) -> None:
        """These channels, and all that are joined with them, are never removed."""
        self._kept.update(int(one) for one in np.unique(numbers) if one != NONE)

    def kept_roots(self) -> set[int]:
        """The roots of channels that are never removed."""
        return {self.root(number) for number in self._kept}

    def rows(self) -> dict[int, list[Row]]:
        """All rows of stored tensors by root."""
        found: dict[int, list[Row]] = {}
        for number, rows in enumerate(self._rows):
            if rows:
                found.setdefault(self.root(number), []).extend(rows)
        return found
