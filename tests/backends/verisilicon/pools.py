"""Means of square windows: every divisor that networks of 320 and 416 px have, with equal and unequal scales."""

from __future__ import annotations

import numpy as np

from picoquant.backends.verisilicon.description import Description, Form
from tests.backends.verisilicon.conformance import Values, averaged

# Sides of windows: those of pools, and of whole maps at strides 8 to 64.
_SIDES = (*range(2, 16), 16, 20, 26, 32, 40, 52)
_SCALES = ((0.05, 0.05), (0.05, 0.033), (0.047, 0.0213))
_CHANNELS, _SMALL = 16, 10  # of smaller windows there are four in a map


def cases() -> list[Values]:
    """All of them."""
    random, made = np.random.RandomState(3), []
    for side in _SIDES:
        size = 2 * side if side <= _SMALL else side
        for source, result in _SCALES:
            image = random.randint(-128, 128, (_CHANNELS, size, size))
            made.append(averaged(f"{side}|{source}|{result}", side, image, source, result))
    return made


def network_of(form: Form) -> tuple[Description, dict[str, np.ndarray]]:
    """All cases in one network, and its inputs."""
    network = Description(form)
    for case in cases():
        case.describe(network)
    return network, {name: values for case in cases() for name, values in case.inputs().items()}
