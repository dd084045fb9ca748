"""The simulation is held to what VeriSilicon's emulator computes: its results are stored in `measured/`.

python -m pytest -m slow tests/backends/verisilicon     runs the emulator again, where it is installed
"""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.base import Machine
from picoquant.backends.verisilicon import toolchain
from picoquant.backends.verisilicon.emulator import FORMS, run
from picoquant.errors import ToolError
from tests.backends.verisilicon.compare import differences
from tests.backends.verisilicon.conformance import CASES, network_of
from tests.backends.verisilicon.measure import DATA, file_of

MEASURED = sorted(tuple(path.stem.split("_", 1)) for path in DATA.glob("*.npz"))

# Values that differ, by one level, of 65,536 sums, 256 values of a function, 512 of concat, 648 of the convolution; the
# others are equal. A function's table is of less precision there: a sigmoid of 2.4977 levels is 3. Sums in INT8 are
# not added in float32; Paddle Lite hands uint8 over.
TABLE = {"sigmoid": 2}
EXPECTED = {
    ("a311d", "uint8_per_tensor"): TABLE,
    ("s905d3", "uint8_per_tensor"): TABLE,
    ("c308x", "uint8_per_tensor"): TABLE,
    ("imx8mp", "uint8_per_tensor"): TABLE,
    ("a311d", "int8_per_channel"): {"dead": 2, "add": 3900, **TABLE},
    ("s905d3", "int8_per_channel"): {"dead": 2, "add": 3900, **TABLE},
    ("imx8mp", "int8_per_channel"): {"dead": 2, "add": 3904, **TABLE},
    ("rk1808", "uint8_per_tensor"): {"sigmoid": 8, "hard_sigmoid": 8, "hard_swish": 21, "concat": 11},
}


@pytest.mark.parametrize(("target", "form"), MEASURED)
def test_the_simulation_computes_what_the_emulator_computes(target, form):
    assert set(MEASURED) == set(EXPECTED)
    found = {name: count for name, count in differences(target, form).items() if count}
    assert found == EXPECTED[target, form]


def test_every_chip_was_measured_with_what_paddle_lite_makes():
    assert {target for target, form in MEASURED if form == "uint8_per_tensor"} == set(toolchain.CHIPS)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["a311d", "imx8mp"])
def test_the_emulator_still_says_so(target):
    try:
        tool = toolchain.find(Machine())
    except ToolError as error:
        pytest.skip(str(error))
    found = run(tool, toolchain.chip_of(target), network_of(FORMS["uint8_per_tensor"]))
    stored = np.load(file_of(target, "uint8_per_tensor"))
    for case in CASES:
        np.testing.assert_array_equal(found[case.name], stored[case.name], err_msg=case.name)
