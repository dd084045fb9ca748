"""Scripts run by turns, a process each."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import busy_share
from benchmarks.speed.works import BEFORE, NOW, Work

ROOT = Path(__file__).resolve().parents[2]
BUSY_SECONDS = 1.0


@dataclass
class Taken:
    """What the turns of a work gave: by side, and the busiest moment between them."""

    said: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    busy: float = 0.0

    def median(self, side: str, key: str) -> float | None:
        """Of a side's figures of this key; None where it has none."""
        found = [one[key] for one in self.said.get(side, []) if one.get(key)]
        return statistics.median(found) if key and found else None


def earlier(work: Path) -> Path:
    """Where the earlier commit is checked out."""
    return work / "before"


def check_out(commit: str, folder: Path) -> None:
    """A work tree of a commit, with those of today's benchmarks that it has not, which then measure its picoquant."""
    if not folder.is_dir():
        subprocess.run(
            ["git", "worktree", "add", "--detach", "-q", str(folder), commit], check=True, cwd=ROOT
        )
    subprocess.run(["git", "clean", "-qfd", "benchmarks"], check=True, cwd=folder)
    subprocess.run(["git", "checkout", "-q", "--detach", commit], check=True, cwd=folder)
    for script in sorted((ROOT / "benchmarks").glob("*.py")):
        there = folder / "benchmarks" / script.name
        if not there.is_file():
            shutil.copyfile(script, there)


def turns(work: Work, options: argparse.Namespace) -> Taken:
    """Every side once a turn."""
    if work.together:
        return together(work, options)
    taken, sides = Taken(), dict(work.sides)
    if options.before and work.earlier:
        sides[BEFORE] = work.sides[NOW]
    for _ in range(options.turns):
        for side, arguments in sides.items():
            if side in taken.failed:
                continue
            taken.busy = max(taken.busy, busy_share(BUSY_SECONDS))
            root = earlier(options.work) if side == BEFORE else ROOT
            try:
                said = run(arguments, work.stdin, root)
                taken.said.setdefault(side, []).append(said)
            except ChildProcessError as error:
                taken.failed[side] = str(error)
                print(f"{arguments[0]}, {side}: not measured: {error}", flush=True)
    return taken


def together(work: Work, options: argparse.Namespace) -> Taken:
    """What a script that takes the turns itself says of its sides, and behind them that of an earlier commit."""
    taken = Taken(busy=busy_share(BUSY_SECONDS))
    try:
        said = run((*work.together, "--turns", str(options.turns)), root=ROOT)
    except ChildProcessError as error:
        said = {"failed": dict.fromkeys(work.names.values(), str(error))}
    taken.busy = max(taken.busy, said.get("busy", 0.0))
    for side, name in work.names.items():
        if name in said["failed"]:
            taken.failed[side] = said["failed"][name]
            print(f"{work.together[0]}, {side}: not measured: {taken.failed[side]}", flush=True)
        else:
            taken.said[side] = said[name]
    if options.before and work.earlier:
        alone = replace(work, sides={BEFORE: work.sides[NOW]}, together=(), earlier=False)
        found = turns(alone, options)
        taken = Taken(
            {**taken.said, **found.said}, {**taken.failed, **found.failed}, max(taken.busy, found.busy)
        )
    return taken


def run(arguments: Sequence[str], stdin: str = "", root: Path = ROOT) -> dict[str, Any]:
    """What a script prints as its last line of JSON.

    Raises: `ChildProcessError` with its last line where it fails.
    """
    script = root / "benchmarks" / arguments[0]
    if not script.is_file():
        raise ChildProcessError(f"there is no benchmarks/{arguments[0]}")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if root != ROOT:  # scripts of an earlier commit may find their picoquant in the environment alone
        environment["PYTHONPATH"] = str(root)
    began = time.time()
    done = subprocess.run(
        [sys.executable, str(script), *arguments[1:]],
        input=stdin, capture_output=True, text=True, check=False, cwd=root, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise ChildProcessError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    said = json.loads(done.stdout.splitlines()[-1])
    if "at" in said:  # the moment that counts, where a process is stopped in the middle
        said["wall"] = said["at"] - began
    return said
