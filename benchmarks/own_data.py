"""README's five lines: one's own data and trained weights to an evaluated package, in seconds and waiting.

    python benchmarks/own_data.py --dataset-dir ../shared/datasets/bccd --image-dir JPEGImages \\
        --train instances_train.json --val instances_val.json --weights ../shared/weights/picodet_s_npu_bccd.pdparams

Each run is `picoquant run` in a process and a folder of its own. Printed are, of each stage, the medians of seconds on
the clock, of CPU seconds and of the part of the CPUs' time that nothing was computed in, as `run.json` has them, and
those of the whole process, the start of Python and its imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from run_command import add_data, machine, run_command

RECIPE = """_BASE_: picodet_s_qat_dis.yaml
Global: {{weights: {weights}, input_size: [{size}, {size}]}}
TrainDataset: {{dataset_dir: {data}, image_dir: {images}, anno_path: {train}}}
EvalDataset: {{dataset_dir: {data}, image_dir: {images}, anno_path: {val}}}
TrainConfig: {{train_iter: 60, eval_iter: 30}}
"""


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_data(parser)
    parser.add_argument("--size", type=int, default=320, help="input height and width")
    parser.add_argument("--runs", type=int, default=5, help="runs to measure")
    parser.add_argument("--set", action="append", default=[], help="KEY.SUB=VALUE, may be given again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        recipe = Path(name) / "cells.yaml"
        recipe.write_text(
            RECIPE.format(
                weights=os.path.abspath(options.weights), size=options.size, data=os.path.abspath(options.dataset_dir),
                images=options.image_dir, train=options.train, val=options.val,
            ),
            encoding="utf-8",
        )  # fmt: skip
        runs = [one_run(recipe, Path(name) / str(number), options.set) for number in range(options.runs)]
    print(f"{machine()}; {options.size} pixels, medians of {len(runs)} runs")
    for stage in runs[0]:
        wall, cpu, idle = (statistics.median(run[stage][kind] for run in runs) for kind in range(3))
        print(f"{stage:10} {wall:7.1f} s {cpu:7.1f} s of CPU  {idle:4.0%} idle")


def one_run(recipe: Path, folder: Path, changes: list[str]) -> dict[str, tuple[float, float, float]]:
    """Seconds, CPU seconds and idle part of each stage and of `all` of one run."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(run_command(str(recipe), folder, "package", changes), check=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    stages = json.loads((folder / "run.json").read_text(encoding="utf-8"))["stages"]
    found = {
        name: (stage["seconds"], stage["cpu_seconds"], stage["cpus"])
        for name, stage in stages.items()
        if "cpu_seconds" in stage
    }
    cpus = len(os.sched_getaffinity(0))
    rows = {**found, "all": (wall, cpu, cpus)}
    print(f"{wall:.1f} s, {cpu:.1f} s of CPU", flush=True)
    return {name: (wall, cpu, max(0.0, 1 - cpu / (wall * cpus))) for name, (wall, cpu, cpus) in rows.items()}


if __name__ == "__main__":
    main()
