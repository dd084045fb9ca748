"""The simulation is held to what VeriSilicon's emulator computes: its results are stored in `measured/`.

python -m pytest -m slow tests/backends/verisilicon     runs the emulator again, where it is installed
"""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.base import Machine
from picoquant.backends.verisilicon import toolchain
from picoquant.backends.verisilicon.description import FORMS
from picoquant.backends.verisilicon.emulator import run
from picoquant.errors import ToolError
from picoquant.targets.profiles import load_target
from tests.backends.verisilicon.compare import differences
from tests.backends.verisilicon.conformance import CASES, inputs_of, network_of
from tests.backends.verisilicon.measure import DATA, emulated_targets, file_of

MEASURED = sorted(tuple(path.stem.split("_", 1)) for path in DATA.glob("*.npz"))

# Values that differ, by one level; the others are equal. Of PID 0x7D, which may be the RK1808's, the rules of functions
# and rescaling are not known.
EXPECTED = {
    ("a311d", "uint8_per_tensor"): {},
    ("s905d3", "uint8_per_tensor"): {},
    ("c308x", "uint8_per_tensor"): {},
    ("imx8mp", "uint8_per_tensor"): {},
    ("a311d", "int8_per_channel"): {},
    ("s905d3", "int8_per_channel"): {},
    ("c308x", "int8_per_channel"): {},
    ("imx8mp", "int8_per_channel"): {},
    ("rk1808", "uint8_per_tensor"): {
        "sigmoid": 8,
        "hard_sigmoid": 8,
        "hard_swish": 21,
        "concat": 11,
        "concat_close": 16,
    },
}


@pytest.mark.parametrize(("target", "form"), MEASURED)
def test_the_simulation_computes_what_the_emulator_computes(target, form):
    assert set(MEASURED) == set(EXPECTED)
    found = {name: count for name, count in differences(target, form).items() if count}
    assert found == EXPECTED[target, form]


def test_every_chip_was_measured_with_what_paddle_lite_makes():
    assert {target for target, form in MEASURED if form == "uint8_per_tensor"} == set(emulated_targets())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["uint8_per_tensor", "int8_per_channel"])
@pytest.mark.parametrize("target", ["a311d", "imx8mp"])
def test_the_emulator_still_says_so(target, form):
    try:
        tool = toolchain.find(Machine())
    except ToolError as error:
        pytest.skip(str(error))
    chip = toolchain.chip_of(load_target(target), tool)
    found = run(tool, chip, network_of(FORMS[form]), inputs_of())
    stored = np.load(file_of(target, form))
    for case in CASES:
        np.testing.assert_array_equal(found[case.name], stored[case.name], err_msg=case.name)
