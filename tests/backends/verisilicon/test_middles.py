"""Sums and products next to the middle between two levels: the emulator's, in every value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.backends.verisilicon.description import FORMS
from picoquant.targets.integer_rules import Rules
from picoquant.targets.profiles import load_target
from tests.backends.verisilicon.measure import MIDDLES
from tests.backends.verisilicon.middles import LEVELS, cases

MEASURED = sorted(tuple(path.stem.split("_", 1)) for path in MIDDLES.glob("*.npz"))


@pytest.mark.parametrize(("target", "form"), MEASURED)
def test_no_value_differs(target, form):
    arithmetic = load_target(target).arithmetic
    rules = Rules(replace(arithmetic, numbers="uint8" if form.startswith("uint8") else "int8"))
    measured = np.load(MIDDLES / f"{target}_{form}.npz")
    off = {
        one.name: int((one.simulate(FORMS[form], rules).ravel() != measured[one.name].ravel()).sum())
        for one in cases(FORMS[form])
    }
    assert len(off) * LEVELS == (20_480 if form.startswith("uint8") else 10_240)
    assert {name: count for name, count in off.items() if count} == {}
