"""Run many bad inputs of a kind and say what each came to.

    python -m tests.fuzz.fuzz --kind coco --cases 3000 --seed 1

Every case must end in a result or in one line with exit code 2, within 20 s and 2 GB. What does not is
listed once for each place in the code, with the smallest input found.
"""

from __future__ import annotations

import argparse
import logging
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings

from picoquant.errors import PicoquantError
from tests.fuzz.kinds import Kind, kinds

SECONDS, MEMORY = 20, 2 << 30


class HangError(Exception):
    """A case that took longer than it may."""


def outcome(kind: Kind, case: Any) -> str:
    """`result` or `refused`; anything else raises.

    Raises: `AssertionError` for a refusal without words or with another exit code than 2.
    """
    folder = Path(tempfile.mkdtemp(prefix="picoquant-fuzz-"))
    signal.alarm(SECONDS)
    try:
        kind.run(folder, case)
        return "result"
    except PicoquantError as error:
        assert error.exit_code == 2, f"exit code {error.exit_code}: {str(error)[:300]}"
        assert str(error).strip(), "no message"
        return "refused"
    finally:
        signal.alarm(0)
        shutil.rmtree(folder, ignore_errors=True)


def _hang(*_: Any) -> None:
    raise HangError(f"more than {SECONDS} s")


def place(error: BaseException) -> str:
    """The last line of picoquant's own that an error went through."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if "/picoquant/" in f.filename]
    where = f"{own[-1].filename.split('/picoquant/')[-1]}:{own[-1].lineno}" if own else "outside"
    return f"{type(error).__name__} at {where}"


def fuzz(kind: Kind, cases: int, start: int) -> tuple[Counter, dict[str, tuple[str, str]]]:
    """Counts by outcome, and for each finding its message and smallest case."""
    counts: Counter = Counter()
    findings: dict[str, tuple[str, str]] = {}

    @seed(start)
    @settings(max_examples=cases, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(kind.cases)
    def run(case: Any) -> None:
        try:
            counts[outcome(kind, case)] += 1
        except Exception as error:
            counts["failed"] += 1
            found, shown = place(error), repr(case)
            if found not in findings or len(shown) < len(findings[found][1]):
                findings[found] = str(error)[:300], shown

    signal.signal(signal.SIGALRM, _hang)
    run()
    return counts, findings


def main() -> int:
    """The command; 1 when anything was found."""
    known = kinds()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=list(known), action="append", help="default: all")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("picoquant").setLevel(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    bad = 0
    for name in options.kind or known:
        counts, findings = fuzz(known[name], options.cases, options.seed)
        bad += len(findings)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"{name}: {sum(counts.values())} cases, {dict(counts)}, peak so far {peak} MiB")
        for found, (message, case) in findings.items():
            print(f"  {found}: {message}\n    {case[:1500]}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
