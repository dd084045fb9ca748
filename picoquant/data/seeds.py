"""Random generators that depend on what they are for and on nothing else.

What a worker draws for one sample must not depend on which worker it is, how many there are, or what
was read before: every generator is made anew from the seed and the place in the run.
"""

from __future__ import annotations

import numpy as np

ORDER, SAMPLE, BATCH, SHAPES, CHOICE, SPLIT = 0, 1, 2, 3, 4, 5  # what a generator is for


def generator(seed: int, purpose: int, *place: int) -> np.random.Generator:
    """A generator for `purpose` at `place` (epoch, and position or step in it)."""
    key = (purpose,) + tuple(int(part) for part in place)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
