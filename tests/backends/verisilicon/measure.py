"""Run the conformance cases on the emulator and store what it computes; needs 1 GB of memory.

python -m tests.backends.verisilicon.measure [TARGET …]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.base import Machine
from picoquant.backends.verisilicon import toolchain
from picoquant.backends.verisilicon.description import FORMS
from picoquant.backends.verisilicon.emulator import run
from picoquant.targets.profile_files import known_targets
from picoquant.targets.profiles import load_target
from tests.backends.verisilicon import functions, middles, pools
from tests.backends.verisilicon.conformance import inputs_of, network_of

DATA = Path(__file__).parent / "measured"
FUNCTIONS, POOLS, MIDDLES = DATA / "functions", DATA / "pools", DATA / "middles"


def file_of(target: str, form: str) -> Path:
    """Where the emulator's results of a target are stored."""
    return DATA / f"{target}_{form}.npz"


def emulated_targets() -> list[str]:
    """The shipped targets whose NPU the emulator has, one of those with the same chip and rules (a board's Android)."""
    found: dict[Any, str] = {}
    for name in known_targets():
        target = load_target(name)
        if target.verisilicon:
            found.setdefault((target.verisilicon, target.arithmetic), name)
    return list(found.values())


def main() -> None:
    """Measure the named targets, or all."""
    tool = toolchain.find(Machine())
    for folder in (FUNCTIONS, POOLS, MIDDLES):
        folder.mkdir(parents=True, exist_ok=True)
    for target in sys.argv[1:] or emulated_targets():
        chip = toolchain.chip_of(load_target(target), tool)
        for form in ("uint8_per_tensor", "int8_per_channel"):
            found = run(tool, chip, network_of(FORMS[form]), inputs_of())
            np.savez_compressed(file_of(target, form), **found)
            for cases, folder in ((functions, FUNCTIONS), (pools, POOLS), (middles, MIDDLES)):
                network, inputs = cases.network_of(FORMS[form])
                np.savez_compressed(folder / f"{target}_{form}.npz", **run(tool, chip, network, inputs))
            print(target, form, flush=True)


if __name__ == "__main__":
    main()
