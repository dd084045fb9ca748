"""Seconds a training step takes: picoquant beside PaddleDetection, same network, images and objects.

    python benchmarks/train_speed.py --size 320 --batch 8

PaddleDetection is measured where `import ppdet` works (`pip install --no-deps paddledet`, and what it
asks for). Each contender runs in a process of its own. A step is forward, losses, backward and update; reading
images is not in it. The median is printed, with CPU seconds, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CONTENDERS = ("PaddleDetection", "picoquant, dygraph", "picoquant")
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
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options)))
        return
    print(f"{options.config}, {options.batch} images of {options.size} pixels, epoch {options.epoch}")
    for name in CONTENDERS:
        found = measured_apart(name)
        if "failed" in found:
            print(f"{name:20} not measured: {found['failed']}")
            continue
        wall, cpu = found["wall"], found["cpu"]
        print(
            f"{name:20} {wall:6.3f} s ({cpu:6.3f} s of CPU)  {options.batch / wall:6.2f} images/s", flush=True
        )


def measured_apart(name: str, script: str = __file__) -> dict[str, Any]:
    """Measure one contender of a benchmark in its own process, with the options of this one."""
    command = [sys.executable, script, *sys.argv[1:], "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Median wall and CPU seconds of a step."""
    import picoquant  # noqa: F401  zlib before paddle
    from picoquant.training.fast import tuned_cpu

    ours = options.only != "PaddleDetection"
    with tuned_cpu() if ours else nullcontext():
        step = picoquant_step(options, options.only == "picoquant") if ours else paddledetection_step(options)
        taken = [timed(step) for _ in range(WARM_UP + options.steps)][WARM_UP:]
    wall, cpu = (statistics.median(column) for column in zip(*taken))
    return {"wall": wall, "cpu": cpu}


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


def picoquant_step(options: argparse.Namespace, fast: bool) -> Callable[[], None]:
    """picoquant's, with or without its faster convolutions."""
    from picoquant import build_detector
    from picoquant.training.fast import FastLayers

    model = build_detector(ROOT / "configs" / options.config, CLASSES)
    layers, inputs = FastLayers(model), batch(options)

    def losses() -> Any:
        with layers.on() if fast else nullcontext():
            return model.loss(**inputs, epoch=options.epoch)["loss"]

    return stepper(model, losses)


if __name__ == "__main__":
    main()
