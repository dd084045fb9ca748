"""The simulation beside what the emulator was measured to compute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from picoquant.backends.verisilicon.description import FORMS
from picoquant.targets.integer_rules import Rules
from picoquant.targets.profiles import load_target
from tests.backends.verisilicon.conformance import CASES
from tests.backends.verisilicon.measure import file_of


def differences(target: str, form: str) -> dict[str, int]:
    """How many values of each case differ; none is more than one level off."""
    numbers = "uint8" if form.startswith("uint8") else "int8"
    rules = Rules(replace(load_target(target).arithmetic, numbers=numbers))
    measured = np.load(file_of(target, form))
    found = {}
    for case in CASES:
        off = np.abs(case.simulate(FORMS[form], rules).astype(int) - measured[case.name])
        assert off.max() <= 1, case.name
        found[case.name] = int((off > 0).sum())
    return found
