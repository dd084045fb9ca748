"""Tables of functions as the emulator was measured to compute them: no value differs."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.verisilicon.description import FORMS
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation.arithmetic import table
from picoquant.targets.profiles import load_target
from tests.backends.verisilicon.functions import LEVELS, tables
from tests.backends.verisilicon.measure import FUNCTIONS

MEASURED = sorted(tuple(path.stem.split("_", 1)) for path in FUNCTIONS.glob("*.npz"))


@pytest.mark.parametrize(("target", "form"), MEASURED)
def test_no_value_of_any_table_differs(target, form):
    measured, points = (
        np.load(FUNCTIONS / f"{target}_{form}.npz"),
        load_target(target).arithmetic.table_points,
    )
    off = {
        one.name: int((measured[one.name].reshape(-1, 256) != one.simulate(FORMS[form], points)).sum())
        for one in tables(FORMS[form])
    }
    assert len(off) > 100 and not any(off.values()), {name: count for name, count in off.items() if count}


def test_a_bend_between_two_points_is_cut_off():
    """By hand: with scale 6/127 the points beside 6 are 124 and 128, so 125 is 124.75, 126 is 125.5, 127 is 126.25."""
    own = QuantParams(6 / 127, 128, signed=False, narrow=False)
    cut = table(lambda x: np.clip(x, 0, 6), own, own, "half_to_even", 16)
    assert dict(zip(LEVELS, cut))[127] == 126
    assert [int(cut[level + 128]) for level in (-5, 0, 63, 124, 125, 126)] == [0, 0, 63, 124, 125, 126]
    assert int(table(lambda x: np.clip(x, 0, 6), own, own, "half_to_even")[255]) == 127
