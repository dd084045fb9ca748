"""Two Pythons with different PaddlePaddle versions: do training, exports and INT8 models come out the same?

    python -m benchmarks.compare_paddle .venv/bin/python .venv-paddle3/bin/python      (make compare-paddle)

Both train PicoDet-S-NPU from the same weights on the same made-up images, export the same network in all three forms,
and quantise the export of the first by PTQ. Printed are the greatest differences, relative to the largest value of a
tensor; 1 is returned where losses or outputs of exports differ by more than 1e-5, or any integer of the INT8 network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CONFIG, CLASSES, BATCH = "picodet_s_416_coco_npu", 4, 4
KINDS = ("raw", "boxes", "detections")
TOLERANCE = 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pythons", nargs="*", help="the two interpreters")
    parser.add_argument("--size", type=int, default=96, help="input height and width")
    parser.add_argument("--steps", type=int, default=50, help="of training")
    parser.add_argument("--out", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.out:
        record(Path(options.out), Path(options.model), options.size, options.steps)
        return 0
    if len(options.pythons) != 2:
        parser.error("two interpreters are expected")
    with tempfile.TemporaryDirectory() as scratch:
        found = []
        for place, python in enumerate(options.pythons):
            out = Path(scratch) / str(place)
            command = [python, __file__, "--size", str(options.size), "--steps", str(options.steps)]
            subprocess.run([*command, "--out", out, "--model", Path(scratch) / "0" / "raw"], check=True)
            found.append(dict(np.load(out / "found.npz")))
    return compare(*found)


def record(out: Path, model: Path, size: int, steps: int) -> None:
    """Compute everything on this interpreter's Paddle.

    Args:
        out: receives `found.npz` and the exports.
        model: what is quantised.
        size: input height and width.
        steps: of training.
    """
    import paddle

    import picoquant  # noqa: F401  zlib before paddle
    from picoquant.export.paddle_export import export_model
    from picoquant.paddle_program.infer_config import InferConfig

    out.mkdir(parents=True)
    config = InferConfig((size, size), tuple(map(str, range(CLASSES))))
    found: dict[str, Any] = {"version": np.array(paddle.__version__)}
    detector = made_detector()
    images = np.random.RandomState(1).rand(BATCH, 3, size, size).astype("float32")
    for kind in KINDS:
        folder = export_model(detector, out / kind, kind, (size, size), config)
        found.update({f"export/{kind}/{place}": value for place, value in enumerate(outputs(folder, images))})
    found.update(int8(model, out, config, size))
    found.update(trained(detector, size, steps))
    np.savez(out / "found.npz", **found)


def made_detector() -> Any:
    """The network with weights that keep the size of what they are given, the same on every Paddle."""
    from picoquant import build_detector

    detector = build_detector(CONFIG, num_classes=CLASSES)
    random = np.random.RandomState(0)
    for name, value in detector.state_dict().items():
        if len(value.shape) == 4:
            spread = (2 / np.prod(value.shape[1:])) ** 0.5
            value.set_value((random.randn(*value.shape) * spread).astype("float32"))
        elif name.endswith("_mean"):
            value.set_value((0.1 * random.randn(*value.shape)).astype("float32"))
    return detector


def outputs(folder: Any, images: np.ndarray) -> list[np.ndarray]:
    """What Paddle's runtime computes of an exported model."""
    from picoquant.backends.paddle.runtime import open_predictor

    feed = {"image": images, "scale_factor": np.ones((len(images), 2), "float32")}
    return [np.asarray(value) for value in open_predictor(folder, threads=1)(feed)]


def trained(detector: Any, size: int, steps: int) -> Iterator[tuple[str, np.ndarray]]:
    """Losses and weights of training as `picoquant train` runs a step: traced layers on oneDNN."""
    import paddle

    from picoquant.training.fast import FastLayers, tuned_cpu

    detector.train()
    rate = paddle.optimizer.lr.LinearWarmup(0.02, 10, 0.002, 0.02)
    optimizer = paddle.optimizer.Momentum(rate, 0.9, parameters=detector.parameters(), weight_decay=4e-5)
    layers, random, losses = FastLayers(detector), np.random.RandomState(2), []
    with tuned_cpu():
        for _ in range(steps):
            images = paddle.to_tensor(random.rand(BATCH, 3, size, size).astype("float32"))
            corners = np.sort(random.rand(BATCH, 3, 2, 2) * size, axis=2).reshape(BATCH, 3, 4)
            with layers.on():
                loss = detector.loss(
                    images,
                    gt_bbox=paddle.to_tensor(corners.astype("float32")),
                    gt_class=paddle.to_tensor(random.randint(0, CLASSES, (BATCH, 3, 1)).astype("int32")),
                    pad_gt_mask=paddle.ones([BATCH, 3, 1]),
                    epoch=0,
                )["loss"]
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            rate.step()
            losses.append(loss.item())
    yield "training/losses", np.array(losses)
    for name, value in detector.state_dict().items():
        yield f"training/weights/{name}", value.numpy()


def int8(model: Path, out: Path, config: Any, size: int) -> dict[str, np.ndarray]:
    """The INT8 network that PTQ makes of a model folder: integers, and the scales of all tensors."""
    from picoquant.int8.files import open_network
    from picoquant.int8.scheme import QuantAwareSettings
    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.quantization.quantize import quantize
    from picoquant.quantization.settings import (
        DistillationSettings,
        QatTrainSettings,
        QuantizationSections,
        QuantizationSettings,
    )

    def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield {"image": np.random.RandomState(start).rand(2, 3, size, size).astype("float32")}
            start += 1

    settings = QuantizationSections(
        DistillationSettings(),
        QuantAwareSettings(),
        QatTrainSettings(train_iter=1),
        QuantizationSettings(method="ptq"),
        calibration_batches=4,
    )
    quantize(model, out / "int8", out / "work", batches, settings, config=config)
    network = open_network(ModelFolder.open(out / "int8"))
    found = {}
    for op in network.operators:
        found[f"int8/weight/{op.output}"] = op.integers
        if op.bias_integers is not None:
            found[f"int8/bias/{op.output}"] = op.bias_integers
    for name, tensor in network.tensors.items():
        if tensor.params is not None:
            found[f"scale/{name}"] = np.array([tensor.params.scale, tensor.params.zero_point], "float64")
    return found


def compare(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> int:
    """Print what differs; returns 1 where it is more than it may be."""
    print(f"PaddlePaddle {first['version']} and {second['version']}, NumPy as installed with each")
    names = sorted(set(first) - {"version"})
    if set(first) != set(second):
        print(f"other tensors: {sorted(set(first) ^ set(second))[:5]}")
        return 1
    bad = 0
    groups = ["training/losses", "training/weights", *(f"export/{kind}" for kind in KINDS), "int8", "scale"]
    for group in groups:
        parts = [name for name in names if name.startswith(group)]
        worst, at, count = 0.0, "", 0
        for name in parts:
            one, other = first[name].astype("float64"), second[name].astype("float64")
            if one.shape != other.shape:
                worst, at, count = float("inf"), name, count + 1
                continue
            if group == "int8":
                difference = float(np.abs(one - other).max(initial=0))
                count += int((one != other).sum())
            else:
                difference = float(
                    np.abs(one - other).max(initial=0) / max(np.abs(one).max(initial=0), 1e-30)
                )
            if difference > worst:
                worst, at = difference, name
        limit = 0 if group == "int8" else TOLERANCE
        wrong = worst > limit and group not in ("training/weights", "scale")
        bad |= wrong
        told = f"{count} integers differ, by at most {worst:g}" if group == "int8" else f"at most {worst:.3g}"
        print(
            f"{group:18} {len(parts):4} tensors: {told}{f' ({at})' if at else ''}{'  TOO MUCH' if wrong else ''}"
        )
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
