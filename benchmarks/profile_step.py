"""Where the time of a training step goes, as a picture: with feature maps channels last, and as before that.

    python benchmarks/profile_step.py --size 416 --batch 16 --out docs/images/training_step.png

oneDNN prints what each of its kernels takes (`ONEDNN_VERBOSE=1`); what it does not print is the rest: Paddle's own
operators, the losses, the update and Python. Medians of several steps, each way in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
WAYS = ("before", "now")
BEGIN, END = "step begins", "step took"
GROUPS = {
    "convolution forward": "convolutions and gradients of images",
    "convolution backward_data": "convolutions and gradients of images",
    "convolution backward_weights": "gradients of weights",
    "reorder": "reorders between layouts",
    "batch_normalization": "batch-norm",
    "eltwise": "activations",
}
REST = "the rest: Paddle's operators, losses, update, Python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=416, help="input height and width")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--epoch", type=int, default=0, help="from 100 on: task-aligned assignment")
    parser.add_argument("--config", default="picodet_s_416_coco_npu.yml", help="a shipped configuration")
    parser.add_argument("--out", type=Path, help="the picture")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run(options)
        return
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        environment = {**os.environ, "ONEDNN_VERBOSE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        found[way] = medians(done.stdout.splitlines())
        print(way, *(f"{name}: {1e3 * value:.0f} ms" for name, value in found[way].items()), sep="\n  ")
    if options.out:
        draw(found, options)


def run(options: argparse.Namespace) -> None:
    """Step, with a line before and after each step."""
    from train_speed import WARM_UP, contender, timed

    from picoquant.training import fast

    if options.way == WAYS[0]:
        fast.channels_last_available = lambda: False
    options.only = "picoquant"
    with contender(options) as step:
        for place in range(WARM_UP + options.steps):
            if place >= WARM_UP:
                print(BEGIN, flush=True)
            wall = timed(step)[0]
            if place >= WARM_UP:
                print(END, wall, flush=True)


def medians(lines: Iterable[str]) -> dict[str, float]:
    """Median seconds of each group of kernels in a step, from what oneDNN printed."""
    steps: list[dict[str, float]] = []
    inside = False
    for line in lines:
        if line.startswith(BEGIN):
            steps.append(dict.fromkeys([*GROUPS.values(), REST], 0.0))
            inside = True
        elif line.startswith(END):
            steps[-1][REST] += float(line.split()[-1])
            inside = False
        elif inside and line.startswith("onednn_verbose") and ",exec," in line:
            parts = line.split(",")
            kind, direction = (parts[parts.index("exec") + place] for place in (2, 4))
            group = next((GROUPS[key] for key in GROUPS if f"{kind} {direction}".startswith(key)), REST)
            seconds = float(parts[-1]) / 1e3
            steps[-1][group] += seconds
            steps[-1][REST] -= seconds
    return {name: statistics.median(step[name] for step in steps) for name in steps[0]}


def draw(found: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """A bar for each way, a colour for each group."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axes = figure.add_subplot()
    left = dict.fromkeys(WAYS, 0.0)
    for group in found[WAYS[0]]:
        values = [found[way][group] for way in WAYS]
        axes.barh(WAYS, values, left=[left[way] for way in WAYS], label=group)
        left = {way: left[way] + value for way, value in zip(WAYS, values)}
    axes.set_xlabel(
        f"seconds of a step, {Path(options.config).stem}, {options.batch} images of {options.size} px"
    )
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    FigureCanvasAgg(figure).print_png(str(options.out))


if __name__ == "__main__":
    main()
