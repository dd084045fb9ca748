"""Where the time of post-training quantisation goes: seconds of each pass of the stage; a picture of their parts.

    python benchmarks/ptq_profile.py --out docs/images/ptq_profile.png

The stage `quantize` of bccd at 416 pixels, 64 images, in this process, behind an export that is not counted. A pass is
timed by the clock and in CPU seconds of all threads; what no pass does is the evaluation of the INT8 model as it is and
with every tensor in INT8, and the rest: reading the model and the images, checks, files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from pictures import bars  # noqa: E402  a script's neighbour
from stage_speed import recipe  # noqa: E402

EVALUATED, REST = "evaluate INT8, twice", "the rest"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="the shared material")
    parser.add_argument("--size", type=int, default=416, help="input height and width")
    parser.add_argument("--images", type=int, default=64, help="calibration images")
    parser.add_argument("--out", type=Path, help="the picture")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    found = profile(options)
    if options.json:
        print(json.dumps(found), file=said)
    else:
        for name, (wall, cpu) in found.items():
            print(f"{name:28} {wall:7.2f} s  {cpu:7.2f} s of CPU", file=said)
    if options.out:
        whole = sums(found)[1]
        label = f"% of the stage's CPU seconds; {options.images} images at {options.size} px"
        bars({name: 100 * cpu / whole for name, (_, cpu) in found.items()}, label, options.out)


def profile(options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Seconds by the clock and of CPU of each pass, in their order."""
    from picoquant.quantization import run as course
    from picoquant.quantization.ptq import pipeline, prepare
    from picoquant.stages.order import run_recipe

    taken: dict[str, tuple[float, float]] = {}

    def passes_of(passes: Sequence[Callable[[Any], Any]], state: Any) -> Any:
        for one in passes:
            state, seconds = timed(one, state)
            taken[one.__name__.replace("_", " ")] = seconds
        return state

    def ptq(*given: Any) -> Any:
        before = sums(taken)
        result, seconds = timed(whole, *given)
        inside = [now - then for now, then in zip(sums(taken), before)]
        taken[EVALUATED] = (seconds[0] - inside[0], seconds[1] - inside[1])
        return result

    whole = course.run_ptq
    pipeline.run_passes = prepare.run_passes = passes_of
    course.run_ptq = ptq
    more = f"Quantize: {{method: ptq}}\nCalibration: {{count: {options.images}}}"
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "cells.yaml"
        config.write_text(recipe(options.shared.resolve(), options.size, more), encoding="utf-8")
        run_recipe(str(config), str(Path(scratch) / "run"), last="export")
        run = run_recipe(str(config), str(Path(scratch) / "run"), last="quantize")
        stage = run.record("quantize")
    done = sums(taken)
    taken[REST] = (stage["seconds"] - done[0], stage["cpu_seconds"] - done[1])
    return taken


def timed(call: Callable[..., Any], *given: Any) -> tuple[Any, tuple[float, float]]:
    """What a call gives, and its seconds by the clock and of CPU."""
    began, used = time.perf_counter(), time.process_time()
    result = call(*given)
    return result, (time.perf_counter() - began, time.process_time() - used)


def sums(taken: dict[str, tuple[float, float]]) -> tuple[float, float]:
    """All seconds together."""
    return sum(wall for wall, _ in taken.values()), sum(cpu for _, cpu in taken.values())


if __name__ == "__main__":
    main()
