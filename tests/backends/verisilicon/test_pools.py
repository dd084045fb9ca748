"""Means as the emulator was measured to compute them: no value differs."""

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


@pytest.mark.parametrize(("target", "form"), MEASURED)
def test_no_mean_differs(target, form):
    numbers = "uint8" if form.startswith("uint8") else "int8"
    rules = Rules(replace(load_target(target).arithmetic, numbers=numbers))
    measured = np.load(POOLS / f"{target}_{form}.npz")
    off = {one.name: int((one.simulate(FORMS[form], rules) != measured[one.name]).sum()) for one in cases()}
    assert len(off) == 60 and {name: count for name, count in off.items() if count} == {}
