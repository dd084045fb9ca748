"""Means as the emulator was measured to compute them: none differs that is not the middle between two levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.backends.verisilicon.description import FORMS
from picoquant.targets.integer_rules import Rules
from picoquant.targets.profiles import load_target
from tests.backends.verisilicon.measure import POOLS
from tests.backends.verisilicon.pools import cases

MEASURED = sorted(tuple(path.stem.split("_", 1)) for path in POOLS.glob("*.npz"))
# Means of 2,256 that are such middles and rounded to the other side; `quantize` chooses scales that have none.
MIDDLES = {
    ("a311d", "uint8_per_tensor"): 5,
    ("s905d3", "uint8_per_tensor"): 5,
    ("c308x", "uint8_per_tensor"): 5,
    ("imx8mp", "uint8_per_tensor"): 8,
    ("a311d", "int8_per_channel"): 4,
}


@pytest.mark.parametrize(("target", "form"), MEASURED)
def test_only_exact_middles_differ(target, form):
    numbers = "uint8" if form.startswith("uint8") else "int8"
    rules = Rules(replace(load_target(target).arithmetic, numbers=numbers))
    measured, off = np.load(POOLS / f"{target}_{form}.npz"), 0
    for one in cases():
        (image, source), result = one.sources[0], one.scale
        side, count = int(one.name.split("|")[0]), measured[one.name].shape[1]
        sums = image.reshape(len(image), count, side, count, side).sum((2, 4))
        means = sums * (float(np.float32(source)) / float(np.float32(result))) / side**2
        differ = one.simulate(FORMS[form], rules) != measured[one.name]
        assert (np.abs(means[differ] - np.floor(means[differ]) - 0.5) < 1e-6).all(), one.name
        off += int(differ.sum())
    assert off == MIDDLES[target, form]
