"""Which filters go first, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.pruning.filters.criteria import fpgm, l1_norm, least

# Four filters of two 1x1 weights: corners of a rectangle and a point near its lower side.
WEIGHT = np.float32([[0, 0], [4, 0], [0, 3], [1, 0]]).reshape(4, 2, 1, 1)


def test_fpgm():
    """Sums of distances: 0+4+3+1, 4+0+5+3, 3+5+0+sqrt(10), 1+3+sqrt(10)+0."""
    assert fpgm(WEIGHT) == pytest.approx([8, 12, 8 + 10**0.5, 4 + 10**0.5])


def test_l1_norm():
    assert l1_norm(-WEIGHT).tolist() == [0, 2, 1.5, 0.5]


@pytest.mark.parametrize(
    ("ratio", "gone"), [(0, []), (0.1, []), (0.25, [3]), (0.5, [3, 0]), (0.75, [3, 0, 2]), (0.99, [3, 0, 2])]
)
def test_how_many_go(ratio, gone):
    """round(4 * ratio), the least first; the last one always stays."""
    assert least(fpgm(WEIGHT), ratio).tolist() == gone
