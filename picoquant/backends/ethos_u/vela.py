"""Run Vela in a process of its own, and read what it says."""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from picoquant.backends.tflite.first_operators import first_operators, operator_names
from picoquant.errors import ToolError, UserError
from picoquant.targets.profiles import EthosU, Target
from picoquant.utils.subprocesses import Outcome, own_environment, run_program

CONFIG = "Arm/vela.ini"
_MODEL = "model"
_COUNT = re.compile(r"^(CPU|NPU) operators = (\d+)", re.M)
_ON_CPU = re.compile(r"^\s*CPU: (\S+) = (.*?)(?: \(outputs .*)?$", re.M)
_MEMORIES = {
    "sram": "SRAM",
    "dram": "DRAM",
    "on_chip_flash": "on-chip flash",
    "off_chip_flash": "off-chip flash",
}


@dataclass(frozen=True)
class Compiled:
    """What Vela made of a model, and what it says of it.

    Attributes:
        content: the compiled `.tflite`.
        operators: how many run on `npu` and `cpu`; Vela counts those of TFLite, activations by themselves.
        on_cpu: type and result of each operator that Vela leaves to the CPU.
        cycles: of the NPU with its memories, one image, estimated by Vela.
        clock: of the NPU in Vela's configuration, Hz.
        milliseconds: for one image, estimated by Vela.
        memory: bytes used, by the name of the memory.
    """

    content: bytes
    operators: dict[str, int]
    on_cpu: tuple[tuple[str, str], ...]
    cycles: int
    clock: float
    milliseconds: float
    memory: dict[str, int]


def settings_of(target: Target) -> EthosU:
    """Vela's settings of a target.

    Raises: `UserError` for one that has none.
    """
    if target.ethos_u is None:
        raise UserError(
            f"{target.name} has no Ethos-U: its profile has no section ethos_u, which Vela needs (accelerator, "
            "system_config, memory_mode)"
        )
    return target.ethos_u


def compile_model(content: bytes, target: Target, program: tuple[str, ...] = ()) -> Compiled:
    """Compile a `.tflite` for a target.

    Args:
        content: of the `.tflite`.
        target: with Vela's settings.
        program: the command that is Vela; empty: that of this environment.

    Raises: `ToolError` with Vela's own word when it refuses the model; where it crashes, with the signal and the
        operator at which it does.
    """
    settings = settings_of(target)
    with tempfile.TemporaryDirectory(prefix="picoquant-vela-") as scratch:
        folder = Path(scratch)
        outcome = _run(content, settings, folder, program)
        if outcome.code < 0:
            place = _place_of_crash(content, settings, folder, program)
            raise ToolError(f"Vela crashes on the model for {target.name} ({outcome.ended}){place}")
        if outcome.code:
            raise ToolError(f"Vela does not compile the model for {target.name}: {_last_line(outcome.text)}")
        return _read(content, folder, outcome.text, target)


def _run(content: bytes, settings: EthosU, folder: Path, program: tuple[str, ...]) -> Outcome:
    model = folder / f"{_MODEL}.tflite"
    model.write_bytes(content)
    command = [*(program or (sys.executable, "-m", "ethosu.vela")), str(model)]
    command += ["--accelerator-config", settings.accelerator, "--config", CONFIG]
    command += ["--system-config", settings.system_config, "--memory-mode", settings.memory_mode]
    command += ["--output-dir", str(folder), "--show-cpu-operations"]
    return run_program(command, cwd=folder, title="vela", environment=own_environment())


def _place_of_crash(content: bytes, settings: EthosU, folder: Path, program: tuple[str, ...]) -> str:
    """The first operator with which the model's beginning makes Vela crash, in words; empty when that is unclear."""
    names = operator_names(content)
    survives, crashes = 0, len(names)
    while crashes - survives > 1:
        middle = (survives + crashes) // 2
        if _run(first_operators(content, middle), settings, folder, program).code < 0:
            crashes = middle
        else:
            survives = middle
    return f": the first {crashes} of {len(names)} operators are enough, the last of them is {names[crashes - 1]}"


def _read(content: bytes, folder: Path, text: str, target: Target) -> Compiled:
    made, summaries = folder / f"{_MODEL}_vela.tflite", sorted(folder.glob(f"{_MODEL}_summary_*.csv"))
    # Vela has names of its own for what it passes over.
    kinds = {name: kind for kind, name in (line.split(" ", 1) for line in operator_names(content))}
    counts = {place.lower(): int(count) for place, count in _COUNT.findall(text)}
    try:
        (row,) = csv.DictReader(summaries[0].read_text(encoding="utf-8").splitlines())
        memory = {name: round(float(row[f"{key}_memory_used"]) * 1024) for key, name in _MEMORIES.items()}
        return Compiled(
            made.read_bytes(),
            {"npu": counts["npu"], "cpu": counts["cpu"]},
            tuple((kinds.get(name, kind), name) for kind, name in _ON_CPU.findall(text)),
            int(float(row["cycles_total"])),
            float(row["core_clock"]),
            float(row["inference_time"]) * 1e3,
            {name: size for name, size in memory.items() if size},
        )
    except (OSError, IndexError, KeyError, ValueError) as error:
        raise ToolError(
            f"Vela's report for {target.name} has another form than that of its versions 5: {error!r}"
        ) from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Warning")]
    last = lines[-1] if lines else "no message"
    return last.split("Error: ", 1)[-1].rstrip("'")
