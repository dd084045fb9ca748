"""How far from what this machine can do at most: a lower bound for each workload, and the fraction of it reached.

    python benchmarks/limit.py                                          the machine, and bounds of all workloads
    python benchmarks/limit.py --measure                                training and QAT steps measured beside them
    python benchmarks/limit.py --measure --run output/bccd              models and evaluations of that run, too

The machine's rates are measured (benchmarks/machine.py): convolutions in oneDNN, copying within each level of memory,
decoding of JPEGs. A layer takes at least the larger of its multiply-accumulates over the rate of its precision, and
the bytes that it reads and writes over the bandwidth of the memory that they fit into; a network at least the sum over
its convolutions. Activations, normalisation and all else count as nothing, and so does what Python does: no program
reaches 100 %, and depthwise convolutions, which no library here computes at the rate of others, stay far below it.
A QAT step is three passes over each layer and a forward pass of the teacher. An evaluation is decoding and the network,
on all threads together.

Two bounds of a training step, both with the multiply-accumulates of three passes over each layer (forward, gradients of
inputs, gradients of weights; of the first convolution, whose input is the image, two):

- `fused` is what no program can be faster than, whatever it brings together. Batch-norm's statistics are of the whole
  batch, so a convolution's result z has to be written before it can be normalised, and read again by the next layer,
  which normalises and activates as it reads; the sums are made as z is written. Backward one kernel computes both
  gradients of a layer: it reads the gradient of its output and z of its output (what the activation lets pass, and the
  gradient of the normalisation), and z of its input (to multiply with, and to sum up for the normalisation before it);
  it writes the gradient of its input. That is 3 (input + output), as many bytes as three plain convolutions read and
  write: (input + output) in each. Normalisation and activation add nothing to it.
- `operators` is what a framework takes at least that computes one operator after another, as Paddle does, with
  activations computed by the batch-norm before them: the convolutions as above, and each batch-norm reads z twice and
  writes its result, and backward reads z and the gradient twice and writes the gradient of z. Concatenations, sums,
  resizing, losses and the update still count as nothing.

Whole pieces of work (benchmarks/speed/bounds.py puts them together):

- *Calibration* of PTQ by the shipped recipe: how many passes over an image its passes need. The float network is run
  over all images once before equalisation (ranges of channels; which of them never change is seen in the same run) and
  once behind it, as another network (histograms). What errors cost is measured on 32 images, before and behind: going
  back takes a pass for the gradients of tensors, and before equalisation one more for those of weights. So 2 passes for
  each image, and 3 more for each of 32. PTQ is that, decoding of all images that are looked at, each once, and one
  evaluation in INT8. Loose: counting values, searching ranges, solving for scales and files count as nothing, and each
  tensor of a pass is read again by what measures it.
- *The README's five lines*: decoding of training and evaluation images, each once; calibration; steps of QAT; the
  evaluations in INT8 and one in FP32; the package's files. Loose: Python and Paddle are not loaded in no time, nothing
  is traced or compiled, and export and the tools of a package (opt, paddle2onnx) count as nothing.
- *Packages*: the models read once, all files of all packages written, and all of them packed by zlib at the level of
  packages, on all threads; how long that takes depends on what they hold, so these very files are packed once more and
  timed. Loose: converting and checking models count as nothing, and what is in several packages is packed for each.
- *Start* of a large data set: its annotations parsed and each image opened and 4 kB of it read, on all threads, by the
  fastest parser of JSON that is installed. Loose: nothing is checked, hashed or decoded, and no network is built. Not
  quite the least, as a reader may leave out what it does not need (outlines) without making objects of it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from file_rates import FileRates, measured_files  # noqa: E402  scripts' neighbours
from machine import BYTES, Machine, measured_machine  # noqa: E402

TRAINING_PASSES = 3
# Of a batch-norm by itself, forward and backward: how often tensors of its size are read or written, and how many
# of them there are.
NORM_PASSES = ((3, 2), (5, 3))
# Of calibration: passes over every image, and over each of some, forward or back; as in the docstring.
CALIBRATION_PASSES, COSTS_PASSES, COSTS_IMAGES = 2, 3, 32
SEPARATE = ", operators"  # ends the name of the bound of one operator after another


@dataclass(frozen=True)
class Layer:
    """A convolution for one image: values read, written and of its weights; multiply-accumulates; whether in groups."""

    inputs: int
    outputs: int
    weights: int
    macs: int
    depthwise: bool = False


@dataclass(frozen=True)
class Network:
    """What runs for one image: its convolutions, the first one first, and the values of each batch-norm's result."""

    layers: tuple[Layer, ...]
    norms: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A workload: its lower bound in seconds, what was measured, and how many images both are for."""

    name: str
    bound: float
    images: int
    seconds: float | None = None

    def text(self) -> str:
        """A row of a table."""
        bound = f"{1e3 * self.bound:9.2f} ms, {self.images / self.bound:8.1f} images/s"
        if self.seconds is None:
            return f"{self.name:42} bound {bound}"
        reached = f"{1e3 * self.seconds:9.2f} ms, {self.images / self.seconds:8.1f} images/s"
        return f"{self.name:42} bound {bound}   measured {reached}   {self.bound / self.seconds:5.1%} of the bound"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config", default="picodet_s_416_coco_npu.yml", help="a shipped configuration")
    parser.add_argument("--size", type=int, default=416, help="input height and width")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--training-batch", type=int, default=16)
    parser.add_argument("--qat-batch", type=int, default=8)
    parser.add_argument("--calibration", type=int, default=64, help="images that PTQ calibrates on")
    parser.add_argument("--measure", action="store_true", help="measure the workloads, too")
    parser.add_argument("--run", type=Path, help="folder of a finished run of this configuration and size")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = measured_machine(options.threads)
    files = measured_files(options.threads)
    network = network_of(options.config, options.size, options.classes)
    if not options.json:
        print("\n".join(about(machine, files, network)), flush=True)
    rows = []
    for row in workloads(options, machine, network):
        rows.append(row)
        if not options.json:
            print(row.text(), flush=True)
    if options.json:
        found = [
            {"name": row.name, "bound": row.bound, "images": row.images, "seconds": row.seconds}
            for row in rows
        ]
        print(json.dumps({"machine": machine.as_dict(), "files": files.as_dict(), "workloads": found}))


def about(machine: Machine, files: FileRates, network: Network) -> Iterable[str]:
    """The machine and the network, a line each."""
    yield f"{machine.threads} threads"
    for precision, rate in machine.macs.items():
        yield f"convolutions, {precision:6} {rate / 1e9:8.1f} GMAC/s"
    for size, rate in machine.copied:
        yield f"copying {size / 2**20:8.2f} MB {rate / 1e9:8.1f} GB/s read and written"
    yield f"JPEG {machine.jpegs / 1e6:22.1f} Mpixel/s"
    yield f"JSON {files.json / 1e6:22.1f} MB/s by {files.parser}"
    yield f"files opened {files.opened / 1e3:14.1f} thousand/s"
    yield f"files written {files.written / 1e9:13.1f} GB/s, read {files.read / 1e9:.1f} GB/s"
    macs = sum(layer.macs for layer in network.layers)
    yield f"network: {len(network.layers)} convolutions, {macs / 1e6:.0f} M multiply-accumulates"


def network_of(config: str, size: int, classes: int = 80) -> Network:
    """The convolutions and batch-norms that run for one image of a shipped configuration."""
    import paddle

    from picoquant import build_detector
    from picoquant.summary.counting import recording

    model = build_detector(config, num_classes=classes)
    named = dict(model.named_sublayers())
    norms = {name: layer for name, layer in named.items() if isinstance(layer, paddle.nn.BatchNorm2D)}
    grouped = {name for name, layer in named.items() if getattr(layer, "_groups", 1) > 1}
    with recording(model, norms) as record:
        model(paddle.zeros([1, 3, size, size]))
    return Network(
        tuple(
            Layer(use.inputs, use.outputs, use.weights, use.macs, use.name in grouped) for use in record.uses
        ),
        tuple(math.prod(shape) for _, shape in record.outputs),
    )


def layer_bound(machine: Machine, layer: Layer, precision: str, images: int) -> float:
    """Least seconds of one pass over a layer."""
    width = BYTES[precision]
    size = width * (images * (layer.inputs + layer.outputs) + layer.weights)
    return max(images * layer.macs / machine.macs[precision], size / machine.bandwidth(size))


def forward_bound(machine: Machine, network: Network, precision: str, images: int) -> float:
    """Least seconds of a forward pass in inference, where batch-norms are part of the convolutions."""
    return sum(layer_bound(machine, layer, precision, images) for layer in network.layers)


def training_bounds(machine: Machine, network: Network, precision: str, images: int) -> tuple[float, float]:
    """Least seconds of a training step, `fused` and `operators` (see above)."""
    once = [layer_bound(machine, layer, precision, images) for layer in network.layers]
    fused = TRAINING_PASSES * sum(once) - once[0]  # no gradient of the image
    width = images * BYTES[precision]
    norms = sum(
        passes * width * values / machine.bandwidth(tensors * width * values)
        for values in network.norms
        for passes, tensors in NORM_PASSES
    )
    return fused, fused + norms


def calibration_bound(machine: Machine, network: Network, images: int) -> float:
    """Least seconds of the passes over calibration images (see above), one at a time or all at once."""
    one = min(
        forward_bound(machine, network, "fp32", 1), forward_bound(machine, network, "fp32", images) / images
    )
    return one * (CALIBRATION_PASSES * images + COSTS_PASSES * min(COSTS_IMAGES, images))


def workloads(options: argparse.Namespace, machine: Machine, network: Network) -> Iterable[Row]:
    """Rows: the steps, then the models of a run."""
    batch = options.training_batch
    for precision, contender in (("fp32", "picoquant"), ("bf16", "picoquant, bfloat16")):
        if precision not in machine.macs:
            continue
        title = f"training step, {precision.upper()}, batch {batch}"
        seconds = training_step(options, contender) if options.measure else None
        fused, operators = training_bounds(machine, network, precision, batch)
        yield Row(title, fused, batch, seconds)
        yield Row(f"{title}{SEPARATE}", operators, batch, seconds)
    batch = options.qat_batch
    bound = (TRAINING_PASSES + 1) * forward_bound(machine, network, "fp32", batch)
    yield Row(f"QAT step, batch {batch}", bound, batch, qat_step(options) if options.measure else None)
    count = options.calibration
    yield Row(f"calibration, {count} images", calibration_bound(machine, network, count), count)
    measured = models_of_run(options) if options.measure and options.run else {}
    for precision in machine.macs:
        bound = forward_bound(machine, network, precision, 1)
        yield Row(f"one image, {precision}", bound, 1)
        for name, seconds in measured.items():
            if name.endswith(f", {precision}"):
                yield Row(f"one image, {name}", bound, 1, seconds)
    if not (options.run and options.measure):
        return
    for precision, stage in (("fp32", "export"), ("int8", "quantize")):
        images, pixels, seconds = evaluation(options.run, stage)
        if precision in machine.macs:
            bound = pixels / machine.jpegs + images * forward_bound(machine, network, precision, 1)
            yield Row(f"evaluation, {precision}", bound, images, seconds)


def training_step(options: argparse.Namespace, contender: str) -> float:
    """Seconds of picoquant's training step, in floats or in bfloat16."""
    sizes = ("--size", options.size, "--batch", options.training_batch, "--config", options.config)
    return _apart("train_speed.py", contender, *sizes)["wall"]


def qat_step(options: argparse.Namespace) -> float:
    """Seconds of picoquant's QAT step."""
    sizes = ("--size", options.size, "--batch", options.qat_batch, "--config", Path(options.config).stem)
    return _apart("quantize_setup.py", "picoquant", *sizes)["step"]


def models_of_run(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of an image for each of ONNX Runtime's and OpenVINO's models: `runtime, precision` -> seconds."""
    from runtime_speed import measured

    found = measured(options.run, ["onnx", "openvino"], options.threads, 200)
    titles = [f"{backend}, {precision}" for backend in ("onnx", "openvino") for precision in ("fp32", "int8")]
    return {title: row["milliseconds"] / 1e3 for title, row in zip(titles, found)}


def _apart(script: str, only: str, *arguments: object) -> dict[str, Any]:
    """The figures of one contender of a benchmark, in a process of its own."""
    import subprocess

    command = [sys.executable, str(ROOT / "benchmarks" / script), "--only", only, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def evaluation(run: Path, stage: str) -> tuple[int, int, float]:
    """Images, their pixels, and seconds of reading, network and NMS of them all; of two evaluations the second."""
    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.stages import datasets
    from picoquant.stages.evaluate import evaluate_folder
    from picoquant.stages.plan import load_plan
    from picoquant.stages.stage import Context
    from picoquant.storage.run_folder import RunFolder

    context = Context(load_plan(str(run / "config.yml"), ()), RunFolder(run), "cpu")
    dataset = datasets.load(context, "EvalDataset")
    folder = ModelFolder.open(run / stage)
    seconds = [evaluate_folder(context, folder, dataset, stage, quick=True).seconds for _ in range(2)][-1]
    return len(dataset), sum(record.width * record.height for record in dataset.records), seconds


if __name__ == "__main__":
    main()
