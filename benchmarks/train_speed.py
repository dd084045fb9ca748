"""Seconds a training step takes: picoquant beside PaddleDetection, same network, images and objects.

    python benchmarks/train_speed.py --size 416 --batch 16

PaddleDetection is measured where `import ppdet` works (`pip install --no-deps paddledet`, and what it
asks for). Each contender has a process of its own; they step in turns, one at a time. A step is forward, losses,
backward and update; reading images is not in it. Medians are printed, with CPU seconds, which other work on the
machine disturbs less, and how many times as fast as PaddleDetection picoquant is. Its fraction of what the machine
can do at most is printed by `benchmarks/limit.py --measure`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DYGRAPH, BFLOAT16 = "picoquant, dygraph", "picoquant, bfloat16"
CONTENDERS = ("PaddleDetection", DYGRAPH, BFLOAT16, "picoquant")
WARM_UP = 3  # steps in which kernels and graphs are made
CLASSES, OBJECTS = 80, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=320, help="input height and width")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="steps to measure")
    parser.add_argument("--epoch", type=int, default=0, help="from 100 on: task-aligned assignment")
    parser.add_argument("--config", default="picodet_s_416_coco_npu.yml", help="a shipped configuration")
    parser.add_argument("--only", choices=CONTENDERS, help="measure one and print JSON")
    parser.add_argument("--on-demand", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.on_demand:
        on_demand(options)
        return
    if options.only:
        print(json.dumps(measure(options)))
        return
    print(f"{options.config}, {options.batch} images of {options.size} pixels, epoch {options.epoch}")
    print(f"{processor()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    medians = {}
    for name, taken in in_turns(options).items():
        wall, cpu = medians[name] = [statistics.median(column) for column in zip(*taken)]
        print(f"{name:20} {wall:6.3f} s ({cpu:6.3f} s of CPU)  {options.batch / wall:6.2f} images/s")
    if {CONTENDERS[0], CONTENDERS[-1]} <= medians.keys():
        wall, cpu = (old / new for old, new in zip(medians[CONTENDERS[0]], medians[CONTENDERS[-1]]))
        print(f"{wall:.2f} times as fast as {CONTENDERS[0]} by the clock, {cpu:.2f} times by CPU seconds")


def processor() -> str:
    """The processor's name, or its kind where it has none."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def in_turns(options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each contender's steps, the contenders in turns; what cannot be measured is said."""
    started = {}
    for name in CONTENDERS:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", name, "--on-demand"]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if answer(child) is None:
            print(f"{name:20} not measured: {(child.stderr.read().strip().splitlines() or ['?'])[-1]}")
        else:
            started[name] = child
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in started}
    for _ in range(options.steps):
        for name, child in started.items():
            child.stdin.write("step\n")
            child.stdin.flush()
            taken[name].append(tuple(answer(child)))
    for child in started.values():
        child.communicate()  # the end of its input is the end of its work
    return taken


def answer(child: subprocess.Popen[str]) -> Any:
    """The next line of JSON that a contender's process prints; None where it has ended."""
    for line in child.stdout:
        if line.startswith("["):
            return json.loads(line)
    return None


def on_demand(options: argparse.Namespace) -> None:
    """Step once for each line of input, after the steps in which kernels are made; print wall and CPU seconds."""
    with contender(options) as step:
        for _ in range(WARM_UP):
            step()
        print("[]", flush=True)
        for _ in sys.stdin:
            print(json.dumps(timed(step)), flush=True)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Median wall and CPU seconds of a step."""
    with contender(options) as step:
        taken = [timed(step) for _ in range(WARM_UP + options.steps)][WARM_UP:]
    wall, cpu = (statistics.median(column) for column in zip(*taken))
    return {"wall": wall, "cpu": cpu}


@contextmanager
def contender(options: argparse.Namespace) -> Iterator[Callable[[], None]]:
    """A step of the contender `options.only`."""
    import picoquant  # noqa: F401  zlib before paddle
    from picoquant.training.fast import tuned_cpu

    ours = options.only != CONTENDERS[0]
    with tuned_cpu() if ours else nullcontext():
        if ours:
            yield picoquant_step(options, options.only != DYGRAPH, options.only == BFLOAT16)
        else:
            yield paddledetection_step(options)


def timed(step: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


def batch(options: argparse.Namespace) -> dict[str, Any]:
    """Images of noise, and boxes on them."""
    import numpy as np
    import paddle

    random, size = np.random.RandomState(0), options.size
    corner = random.rand(options.batch, OBJECTS, 2) * 0.6 * size
    side = (0.1 + random.rand(options.batch, OBJECTS, 2) * 0.3) * size
    arrays = {
        "image": random.rand(options.batch, 3, size, size).astype("float32"),
        "gt_bbox": np.concatenate([corner, corner + side], axis=-1).astype("float32"),
        "gt_class": random.randint(0, CLASSES, [options.batch, OBJECTS, 1]).astype("int32"),
        "pad_gt_mask": np.ones([options.batch, OBJECTS, 1], "float32"),
    }
    return {name: paddle.to_tensor(value) for name, value in arrays.items()}


def stepper(model: Any, losses: Callable[[], Any]) -> Callable[[], None]:
    """A step: losses, backward, momentum."""
    import paddle

    model.train()
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters(), weight_decay=4e-5)

    def step() -> None:
        losses().backward()
        optimizer.step()
        optimizer.clear_grad()

    return step


def paddledetection_step(options: argparse.Namespace) -> Callable[[], None]:
    """PaddleDetection's network and losses, from the same configuration."""
    import paddle
    from ppdet.core.workspace import create, load_config

    config = load_config(str(ROOT / "configs" / options.config))
    config["num_classes"] = CLASSES
    model = create(config["architecture"])
    inputs = {**batch(options), "epoch_id": options.epoch, "im_id": paddle.arange(options.batch)}
    return stepper(model, lambda: model(inputs)["loss"])


def picoquant_step(options: argparse.Namespace, fast: bool, bfloat16: bool = False) -> Callable[[], None]:
    """picoquant's, with or without its faster convolutions, these with feature maps in floats or in bfloat16."""
    from picoquant import build_detector
    from picoquant.training.fast import FastLayers
    from picoquant.training.onednn.engine import bfloat16_available
    from picoquant.training.onednn.library import Kind

    if bfloat16 and not bfloat16_available():
        raise SystemExit("this processor does not multiply bfloat16")
    model = build_detector(ROOT / "configs" / options.config, CLASSES)
    layers, inputs = FastLayers(model, precision=Kind.BF16 if bfloat16 else Kind.F32), batch(options)

    def losses() -> Any:
        with layers.on() if fast else nullcontext():
            return model.loss(**inputs, epoch=options.epoch)["loss"]

    return stepper(model, losses)


if __name__ == "__main__":
    main()
