"""How training scales from one process to two: images a second of each, and the efficiency.

    python benchmarks/processes.py --size 416 --batch 8 --record processes.json

Each process has a core of its own and `--batch` images, so that two do twice the work (weak scaling); efficiency is
their images a second over twice those of one. Contenders take turns, run by run, each started by Paddle's launcher:

- picoquant: gradients averaged by one operation
- joint batch norm: the same with `norm_type: sync_bn`, statistics of all images
- paddle.DataParallel: Paddle's own, on the same network as Paddle's graphs; it reduces gradients as they come, one by
  one, and those of oneDNN's tape (`training/onednn`) come all at once, at which it crashes

A step is forward, losses, backward, averaging and update; reading images is not in it. The median of the runs' medians
is printed, by wall clock and by CPU seconds of all processes, with the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.train_speed import CLASSES, WARM_UP, batch, timed  # noqa: E402

CONTENDERS = ("picoquant", "joint batch norm", "paddle.DataParallel")
CASES = (("picoquant", 1), *((name, 2) for name in CONTENDERS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=320, help="input height and width")
    parser.add_argument("--batch", type=int, default=8, help="images of each process")
    parser.add_argument("--steps", type=int, default=8, help="steps of a run")
    parser.add_argument("--runs", type=int, default=5, help="of each contender, taking turns")
    parser.add_argument("--config", default="picodet_s_416_coco_npu.yml", help="a shipped configuration")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--only", choices=CONTENDERS, help="measure one (as the launcher starts it)")
    options = parser.parse_args()
    if options.only:
        measure(options)
        return
    print(
        f"{options.config}, {options.batch} images of {options.size} pixels a process, {options.runs} runs in turns"
    )
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start")
    runs: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in CASES}
    for _ in range(options.runs):
        for name, world in CASES:
            runs[name, world].append(measured_apart(options, name, world))
    lines = [summary(options, name, world, found) for (name, world), found in runs.items()]
    for line in lines:
        line["efficiency"] = line["images_per_second"] / (line["processes"] * lines[0]["images_per_second"])
        print(
            f"{line['contender']:20} {line['processes']} process{'es' if line['processes'] > 1 else '  '} "
            f"{line['wall']:7.3f} s a step ({line['cpu']:7.3f} s of CPU)  {line['images_per_second']:6.2f} images/s  "
            f"efficiency {line['efficiency']:.2f}"
        )
    if options.record:
        facts = {"machine": platform.processor() or platform.machine(), "cpus": os.cpu_count()}
        settings = {name: getattr(options, name) for name in ("config", "size", "batch", "steps", "runs")}
        options.record.write_text(json.dumps({**facts, **settings, "figures": lines}, indent=2) + "\n")


def summary(
    options: argparse.Namespace, name: str, world: int, runs: list[dict[str, float]]
) -> dict[str, Any]:
    """Medians of the runs of a contender."""
    wall, cpu = (statistics.median(run[key] for run in runs) for key in ("wall", "cpu"))
    speed = world * options.batch / wall
    return {"contender": name, "processes": world, "wall": wall, "cpu": cpu, "images_per_second": speed}


def measured_apart(options: argparse.Namespace, name: str, world: int) -> dict[str, float]:
    """One run, in processes of its own; the slowest one's wall clock, and CPU seconds of all."""
    with tempfile.TemporaryDirectory(prefix="picoquant-processes-") as folder:
        command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(world)]
        command += ["--log_dir", f"{folder}/log", __file__, "--only", name]
        for key in ("size", "batch", "steps", "config"):
            command += [f"--{key}", str(getattr(options, key))]
        environment = {**os.environ, "MEASURED_INTO": folder, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
        if done.returncode or len(found) != world:
            log = Path(folder) / "log/workerlog.0"
            sys.exit(
                f"{name}, {world} processes: {(log if log.is_file() else Path(__file__)).read_text()[-2000:]}"
            )
    return {"wall": max(one["wall"] for one in found), "cpu": sum(one["cpu"] for one in found)}


def measure(options: argparse.Namespace) -> None:
    """Median wall and CPU seconds of a step of this process, on a core of its own, written for `measured_apart`."""
    import picoquant  # noqa: F401  zlib before paddle
    from picoquant.training.fast import tuned_cpu
    from picoquant.utils.device import rank_and_world

    rank, _ = rank_and_world()
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[rank % len(cpus)]})
    with tuned_cpu():
        step = stepper(options)
        taken = [timed(step) for _ in range(WARM_UP + options.steps)][WARM_UP:]
    wall, cpu = (statistics.median(column) for column in zip(*taken))
    Path(os.environ["MEASURED_INTO"], f"{rank}.json").write_text(json.dumps({"wall": wall, "cpu": cpu}))


def stepper(options: argparse.Namespace) -> Callable[[], None]:
    """A step: losses, backward, averaging, momentum."""
    import paddle

    from picoquant import build_detector
    from picoquant.training.fast import FastLayers, fast_convolutions_available
    from picoquant.training.graphs.rewrite import ChannelsLast
    from picoquant.training.joint_batch_norm.layer import synchronised
    from picoquant.utils.process_group import Group

    group = Group()
    model = build_detector(ROOT / "configs" / options.config, CLASSES)
    joint = options.only == "joint batch norm" and group.world > 1
    if joint:
        model = synchronised(model, group)
    theirs = options.only == "paddle.DataParallel"
    layers = FastLayers(model, ChannelsLast if theirs else None, group=group if joint else None)
    inputs = batch(options)
    model.train()

    class Losses(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs: Any) -> Any:
            return self.model.loss(**inputs, epoch=0)["loss"]

    losses = paddle.DataParallel(Losses(), find_unused_parameters=True) if theirs else Losses()
    parameters = [value for value in model.parameters() if value.trainable]
    optimizer = paddle.optimizer.Momentum(0.01, parameters=parameters, weight_decay=4e-5)

    def step() -> None:
        with layers.on() if fast_convolutions_available() else nullcontext():
            loss = losses(**inputs)
        loss.backward()
        if not theirs:
            group.average_gradients(parameters)
        optimizer.step()
        optimizer.clear_grad()

    return step


if __name__ == "__main__":
    main()
