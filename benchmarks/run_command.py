"""The command of a whole run, for benchmarks that make one, and the machine that they ran on."""

from __future__ import annotations

import argparse
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


def add_data(parser: argparse.ArgumentParser) -> None:
    """Options that name a COCO data set and a network's weights."""
    parser.add_argument("--dataset-dir", required=True, help="folder of a COCO data set")
    parser.add_argument("--image-dir", default="val2017", help="its images")
    parser.add_argument("--train", required=True, help="annotations to calibrate (and train) on")
    parser.add_argument("--val", required=True, help="annotations to evaluate on")
    parser.add_argument("--weights", required=True, help=".pdparams of the network")


def machine() -> str:
    """The processor, and how many of it there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{os.cpu_count()} x {name or platform.processor() or platform.machine()}"
