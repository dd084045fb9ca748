"""Cycles of a run's INT8 network on VeriSilicon's emulator, as picoquant hands it over or with INT16 tensors.

    python -m benchmarks.scheme_cycles RUN [--target NAME]... [--int16] [--out FILE]

Nothing is run: the driver says cycles when it has compiled the network, and they do not depend on values. With --int16
all tensors and weights are INT16 with the INT8 ones' scales, which no target of picoquant is handed: it shows what that
would cost.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import yaml

from picoquant.backends.base import Machine
from picoquant.backends.verisilicon import toolchain
from picoquant.backends.verisilicon.description import Form
from picoquant.backends.verisilicon.report import report, totals
from picoquant.errors import ToolError
from picoquant.npu.emulated.describe import describe_network, form_of
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.targets.profiles import load_target

INT16 = Form("i16", np.int16, 0)
TARGETS = ("a311d", "s905d3", "c308x", "imx8mp")


def main() -> None:
    """Print the cycles of each target, and write them to a file of YAML, `target: {unit: cycles}`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder, or a folder of an INT8 model")
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--int16", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.run / "quantize"
    model = ModelFolder.open(folder if folder.is_dir() else arguments.run)
    tool, found = toolchain.find(Machine()), {}
    for name in arguments.target or TARGETS:
        target = load_target(name)
        simulation = NpuSimulation(model, target.integer_rules)
        network = describe_network(simulation, INT16 if arguments.int16 else form_of(simulation))
        try:
            units = dict(totals(report(tool, toolchain.chip_of(target, tool), network)))
        except ToolError as error:  # the driver has no such operator: the other chips may
            print(name, error, flush=True)
            continue
        print(name, units, f"{sum(units.values()) / 1e6:.2f} M", flush=True)
        found[name] = units
        if arguments.out:
            arguments.out.write_text(yaml.safe_dump(found), encoding="utf-8")


if __name__ == "__main__":
    main()
