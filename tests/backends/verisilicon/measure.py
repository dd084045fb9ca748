"""Run the conformance cases on the emulator and store what it computes; needs 1 GB of memory.

python -m tests.backends.verisilicon.measure [TARGET …]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from picoquant.backends.base import Machine
from picoquant.backends.verisilicon import toolchain
from picoquant.backends.verisilicon.description import FORMS
from picoquant.backends.verisilicon.emulator import run
from picoquant.targets.profile_files import known_targets
from picoquant.targets.profiles import load_target
from tests.backends.verisilicon import functions
from tests.backends.verisilicon.conformance import inputs_of, network_of

DATA = Path(__file__).parent / "measured"
FUNCTIONS = DATA / "functions"


def file_of(target: str, form: str) -> Path:
    """Where the emulator's results of a target are stored."""
    return DATA / f"{target}_{form}.npz"


def emulated_targets() -> list[str]:
    """The shipped targets whose NPU the emulator has."""
    return [name for name in known_targets() if load_target(name).verisilicon]


def main() -> None:
    """Measure the named targets, or all."""
    tool = toolchain.find(Machine())
    FUNCTIONS.mkdir(parents=True, exist_ok=True)
    for target in sys.argv[1:] or emulated_targets():
        chip = toolchain.chip_of(load_target(target), tool)
        for form in ("uint8_per_tensor", "int8_per_channel"):
            found = run(tool, chip, network_of(FORMS[form]), inputs_of())
            np.savez_compressed(file_of(target, form), **found)
            network, inputs = functions.network_of(FORMS[form])
            np.savez_compressed(FUNCTIONS / f"{target}_{form}.npz", **run(tool, chip, network, inputs))
            print(target, form, flush=True)


if __name__ == "__main__":
    main()
