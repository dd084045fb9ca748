"""The command of a whole run, for benchmarks that make one."""

from __future__ import annotations

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
