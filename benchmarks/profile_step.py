"""Where the time of a training step goes, as a picture, beside the bounds of each kind of work.

    python benchmarks/profile_step.py --size 416 --batch 16 --out docs/images/training_step.png

oneDNN prints what each of its kernels takes (`ONEDNN_VERBOSE=1`); what it does not print is the rest: Paddle's own
operators, the losses, the update and Python. Medians of several steps, each way in a process of its own: `now`,
`bfloat16`, and `before`: Paddle's graphs with oneDNN's kernels. `fused` and `operators` are the two bounds of
benchmarks/limit.py, with the same rates: of the first the convolutions are all, of the second the batch-norms, too.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from limit import Network, layer_bound, network_of, training_bounds  # noqa: E402  scripts beside this one
from machine import Machine, measured_machine  # noqa: E402

WAYS = ("before", "now", "bfloat16")
BEGIN, END = "step begins", "step took"
DENSE, DEPTHWISE = "convolutions and gradients of images", "the same, depthwise"
WEIGHTS, WEIGHTS_DEPTHWISE = "gradients of weights", "the same of depthwise ones"
REORDERS, NORMS, ACTIVATIONS = "reorders between layouts", "batch-norm", "activations"
REST = "the rest: Paddle's operators, losses, update, Python"
GROUPS = (DENSE, DEPTHWISE, WEIGHTS, WEIGHTS_DEPTHWISE, REORDERS, NORMS, ACTIVATIONS, REST)
KINDS = {"reorder": REORDERS, "batch_normalization": NORMS, "eltwise": ACTIVATIONS, "gemm_api": WEIGHTS}
DEPTHWISE_PROBLEM = re.compile(r"g(\d+)mb\d+_ic\1oc\1_")  # as many groups as channels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=416, help="input height and width")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--epoch", type=int, default=0, help="from 100 on: task-aligned assignment")
    parser.add_argument("--config", default="picodet_s_416_coco_npu.yml", help="a shipped configuration")
    parser.add_argument("--threads", type=int, default=2, help="whose rates the bounds are of")
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
    machine = measured_machine(options.threads)
    bars = found | bounds(machine, network_of(options.config, options.size), options.batch)
    for way, parts in bars.items():
        total = sum(parts.values())
        print(f"{way} {1e3 * total:.0f} ms", *(f"{name}: {1e3 * value:.0f} ms" for name, value in parts.items()),
              sep="\n  ")  # fmt: skip
    if options.out:
        draw(bars, options)


def run(options: argparse.Namespace) -> None:
    """Step, with a line before and after each step."""
    from train_speed import BFLOAT16, WARM_UP, contender, timed

    from picoquant.training import fast
    from picoquant.training.onednn.graph import UnsupportedError

    if options.way == "before":

        def none(*arguments: object) -> None:
            raise UnsupportedError("not asked for")

        fast.engine_of = none
    options.only = BFLOAT16 if options.way == "bfloat16" else "picoquant"
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
            steps.append(dict.fromkeys(GROUPS, 0.0))
            inside = True
        elif line.startswith(END):
            steps[-1][REST] += float(line.split()[-1])
            inside = False
        elif inside and line.startswith("onednn_verbose") and ",exec," in line:
            parts = line.split(",")
            kind, direction = (parts[parts.index("exec") + place] for place in (2, 4))
            group = group_of(kind, direction, parts[-2])
            seconds = float(parts[-1]) / 1e3
            steps[-1][group] += seconds
            steps[-1][REST] -= seconds
    return {name: statistics.median(step[name] for step in steps) for name in steps[0]}


def group_of(kind: str, direction: str, problem: str) -> str:
    """Which group a kernel of oneDNN's belongs to, by its kind, propagation and problem."""
    if kind == "convolution":
        weights = direction == "backward_weights"
        if DEPTHWISE_PROBLEM.match(problem):
            return WEIGHTS_DEPTHWISE if weights else DEPTHWISE
        return WEIGHTS if weights else DENSE
    return KINDS.get(kind, REST)


def bounds(machine: Machine, network: Network, images: int) -> dict[str, dict[str, float]]:
    """The two bounds of limit.py as bars of the picture: seconds of each group."""
    fused = dict.fromkeys(GROUPS, 0.0)
    for place, layer in enumerate(network.layers):
        once = layer_bound(machine, layer, "fp32", images)
        fused[DEPTHWISE if layer.depthwise else DENSE] += once * (2 if place else 1)
        fused[WEIGHTS_DEPTHWISE if layer.depthwise else WEIGHTS] += once
    total, separate = training_bounds(machine, network, "fp32", images)
    return {"fused": fused, "operators": {**fused, NORMS: separate - total}}


def draw(found: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """A bar for each way and each bound, a colour for each group."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    ways = list(found)
    left = dict.fromkeys(ways, 0.0)
    for group in GROUPS:
        values = [found[way][group] for way in ways]
        axes.barh(ways, values, left=[left[way] for way in ways], label=group)
        left = {way: left[way] + value for way, value in zip(ways, values)}
    axes.set_xlabel(
        f"seconds of a step, {Path(options.config).stem}, {options.batch} images of {options.size} px"
    )
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    FigureCanvasAgg(figure).print_png(str(options.out))


if __name__ == "__main__":
    main()
