"""Run many bad inputs of a kind and say what each came to.

    python -m tests.fuzz.fuzz --kind coco --cases 3000 --seed 1 --keep findings/

Every case must end in a result or in one line with exit code 2, within 20 s and 2 GB: of address space, or
of memory where a case has a process of its own, as native code may crash. What does not is listed once for
each place in the code, with the smallest input found, which `--keep` writes to a file.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings

from picoquant.errors import PicoquantError
from tests.fuzz.kinds import Kind, kinds

SECONDS, MEMORY = 20, 2 << 30
# How Python tells programmers, not users, what is wrong.
PYTHON = re.compile(
    r"'NoneType'|object (is not|has no|does not)|codec can't|invalid literal|could not convert|\[Errno|unhashable"
    r"|unexpected keyword|positional arg|out of range|not subscriptable|<class '|Traceback|unpack requires|__init__"
)


class HangError(Exception):
    """A case that took longer than it may."""


class FailedError(Exception):
    """What went wrong in a process of its own, and `where`."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(message)
        self.where = where


def outcome(kind: Kind, case: Any) -> str:
    """`result` or `refused`; anything else raises.

    Raises: `AssertionError` for a refusal without words, in Python's words, or with another exit code than 2.
    """
    folder = Path(tempfile.mkdtemp(prefix="picoquant-fuzz-"))
    try:
        if kind.own_process:
            return _outcome_of_process(kind, folder, case)
        return _outcome(kind, folder, case)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _outcome(kind: Kind, folder: Path, case: Any) -> str:
    signal.alarm(SECONDS)
    try:
        kind.run(folder, case)
        return "result"
    except PicoquantError as error:
        assert error.exit_code == 2, f"exit code {error.exit_code}: {str(error)[:300]}"
        assert str(error).strip(), "no message"
        assert not PYTHON.search(str(error)), f"Python's words: {str(error)[:300]}"
        return "refused"
    finally:
        signal.alarm(0)


def _outcome_of_process(kind: Kind, folder: Path, case: Any) -> str:
    """The same in a fork of this process: native code may crash, hang, or take memory that stays."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(told)
        try:
            found = [_outcome(kind, folder, case)]
        except BaseException as error:
            found = [place(error), str(error)[:300]]
        os.write(tell, json.dumps(found).encode()[:4096])
        os._exit(0)
    os.close(tell)
    with open(told, "rb") as stream:
        ready, _, _ = select.select([stream], [], [], SECONDS + 10)  # native code does not heed an alarm
        if not ready:
            os.kill(child, signal.SIGKILL)
        said = stream.read()
    _, status, usage = os.wait4(child, 0)
    if usage.ru_maxrss << 10 > MEMORY:
        raise FailedError("memory", f"{usage.ru_maxrss >> 10} MiB")
    if not ready:
        raise FailedError("native code", f"more than {SECONDS + 10} s")
    if status:
        raise FailedError("native code", f"signal {status & 0x7F}, code {status >> 8}")
    found = json.loads(said)
    if len(found) == 2:
        raise FailedError(*found)
    return found[0]


def _hang(*_: Any) -> None:
    raise HangError(f"more than {SECONDS} s")


def place(error: BaseException) -> str:
    """The last line of picoquant's own that an error went through."""
    if isinstance(error, FailedError):
        return error.where
    own = [f for f in traceback.extract_tb(error.__traceback__) if "/picoquant/" in f.filename]
    where = f"{own[-1].filename.split('/picoquant/')[-1]}:{own[-1].lineno}" if own else "outside"
    return f"{type(error).__name__} at {where}"


def fuzz(
    kind: Kind, cases: int, start: int, minutes: float = math.inf
) -> tuple[Counter, dict[str, tuple[str, Any]]]:
    """Counts by outcome, and for each finding its message and smallest case; none is begun after `minutes`."""
    end = time.monotonic() + 60 * minutes
    counts: Counter = Counter()
    findings: dict[str, tuple[str, Any]] = {}

    @seed(start)
    @settings(max_examples=cases, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(kind.cases)
    def run(case: Any) -> None:
        if time.monotonic() > end:
            return
        try:
            counts[outcome(kind, case)] += 1
        except Exception as error:
            counts["failed"] += 1
            found = place(error)
            if found not in findings or len(repr(case)) < len(repr(findings[found][1])):
                findings[found] = str(error)[:300], case

    signal.signal(signal.SIGALRM, _hang)
    run()
    return counts, findings


def _keep(folder: Path, name: str, case: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / re.sub(r"[^\w.]+", "_", name)
    path.write_bytes(case if isinstance(case, bytes) else repr(case).encode("utf-8", "surrogatepass"))
    return path


def main() -> int:
    """The command; 1 when anything was found."""
    known = kinds()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=list(known), action="append", help="default: all")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="of each kind; default: no end")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that failed; default: none is kept")
    options = parser.parse_args()
    logging.getLogger("picoquant").setLevel(logging.CRITICAL)
    bad = 0
    for name in options.kind or known:
        limit = (
            resource.RLIM_INFINITY if known[name].own_process else MEMORY
        )  # paddle's address space is larger
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        counts, findings = fuzz(known[name], options.cases, options.seed, options.minutes)
        bad += len(findings)
        whose = resource.RUSAGE_CHILDREN if known[name].own_process else resource.RUSAGE_SELF
        peak = resource.getrusage(whose).ru_maxrss >> 10
        print(f"{name}: {sum(counts.values())} cases, {dict(counts)}, peak so far {peak} MiB", flush=True)
        for found, (message, case) in findings.items():
            print(f"  {found}: {message}\n    {repr(case)[:1500]}")
            if options.keep:
                print(f"    whole: {_keep(options.keep, f'{name} {found}', case)}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
