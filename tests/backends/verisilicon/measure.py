"""Run the conformance cases on the emulator and store what it computes; needs 5 GB of memory.

python -m tests.backends.verisilicon.measure [TARGET …]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from picoquant.backends.base import Machine
from picoquant.backends.verisilicon import toolchain
from picoquant.backends.verisilicon.emulator import FORMS, run
from tests.backends.verisilicon.conformance import network_of

DATA = Path(__file__).parent / "measured"


def file_of(target: str, form: str) -> Path:
    """Where the emulator's results of a target are stored."""
    return DATA / f"{target}_{form}.npz"


def main() -> None:
    """Measure the named targets, or all."""
    tool = toolchain.find(Machine())
    DATA.mkdir(exist_ok=True)
    for target in sys.argv[1:] or toolchain.CHIPS:
        for form in ("uint8_per_tensor", "int8_per_channel"):
            found = run(tool, toolchain.chip_of(target), network_of(FORMS[form]))
            np.savez_compressed(file_of(target, form), **found)
            print(target, form, flush=True)


if __name__ == "__main__":
    main()
