"""The command of a whole run, for benchmarks that make one, and the machine that they ran on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path


def run_command(config: str, folder: Path, until: str, changes: Iterable[str]) -> list[str]:
    """`picoquant run` in this interpreter, its output in the run's log alone.

    Args:
        config: a recipe, as `--config` takes it.
        folder: the run folder.
        until: the last stage.
        changes: `KEY.SUB=VALUE` texts.
    """
    command = [sys.executable, "-m", "picoquant", "run", "--config", config, "--save-dir", str(folder)]
    command += ["--until", until, "--quiet"]
    return command + [part for change in changes for part in ("--set", change)]


def machine() -> str:
    """The processor, and how many of it there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{os.cpu_count()} x {name or platform.processor() or platform.machine()}"
