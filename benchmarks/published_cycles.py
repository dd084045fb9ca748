"""Cycles of the networks whose latency Paddle Lite publishes, on VeriSilicon's emulator.

    python -m benchmarks.published_cycles --out results [--network NAME]... [--target NAME]...

Nothing is run, a network takes seconds. Networks are built here with random weights, which cycles hardly depend on: one
scale a tensor, uint8, all activations with one scale. YOLOv5s (6.0, 640 px) ends in three maps, and has a hard-swish
in place of each SiLU: a table on the TP is what the driver makes of either. PicoDet 416 is `picodet_s_416_coco_npu` as
picoquant hands it over, `picodet_416_first` as it did at first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np

from picoquant.backends.base import Machine
from picoquant.backends.verisilicon import toolchain
from picoquant.backends.verisilicon.description import FORMS, Description
from picoquant.backends.verisilicon.report import report, totals
from picoquant.npu.emulated import describe
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.storage.files import write_text
from picoquant.targets.profiles import load_target

SCALE = 0.05
TARGETS = ("a311d", "s905d3", "c308x", "imx8mp")


@dataclass(frozen=True)
class Map:
    """A tensor under construction: its number in the description, channels, and size of its sides."""

    number: int
    channels: int
    size: int


@dataclass
class Builder:
    """Writes a network of random weights.

    Args:
        size: of the image.
        activation: behind a convolution.
    """

    size: int
    activation: str
    network: Description = field(default_factory=lambda: Description(FORMS["uint8_per_tensor"]))
    _random: np.random.RandomState = field(default_factory=lambda: np.random.RandomState(0))
    _made: int = 0

    def image(self) -> Map:
        return Map(self.network.input("image", (3, self.size, self.size), SCALE), 3, self.size)

    def node(self, kind: str, parameters: list[int], sources: list[Map], channels: int, size: int) -> Map:
        self._made += 1
        result = self.network.between((channels, size, size), SCALE)
        self.network.node(kind, parameters, [one.number for one in sources], [result], f"{kind}{self._made}")
        return Map(result, channels, size)

    def conv(
        self,
        source: Map,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        linear: bool = False,
        result: str = "",
    ) -> Map:
        """A convolution with its bias, and its activation unless `linear`; `result`: it is an output of this name."""
        depth = 1 if depthwise else source.channels
        size = -(-source.size // stride)
        weights = np.rint(self._random.randn(channels, depth, kernel, kernel) * 40).clip(-127, 127)
        scales = np.full(channels, 0.0025 / np.sqrt(max(1, depth * kernel * kernel / 9)), np.float32)
        stored = self.network.weight(weights.astype(int), scales, depthwise)
        bias = self.network.bias(self._random.randint(-500, 500, channels), scales * np.float32(SCALE))
        pad = (kernel - 1) // 2
        window = [kernel, kernel, stride, stride, *[pad] * 4, 1, 1, channels]
        parts = [source, Map(stored, 0, 0), Map(bias, 0, 0)]
        kind = "depthwise" if depthwise else "conv"
        if result:
            number = self.network.output(result, (channels, size, size), SCALE)
            self.network.node(kind, window, [one.number for one in parts], [number], result)
            return Map(number, channels, size)
        made = self.node(kind, window, parts, channels, size)
        return made if linear else self.node(self.activation, [], [made], channels, size)

    def add(self, first: Map, second: Map) -> Map:
        return self.node("add", [], [first, second], first.channels, first.size)

    def concat(self, *parts: Map) -> Map:
        channels = sum(one.channels for one in parts)
        return self.node("concat", [2], list(parts), channels, parts[0].size)

    def classifier(self, source: Map) -> Description:
        mean = self.node("average", [source.size] * 4 + [0] * 4, [source], source.channels, 1)
        self.conv(mean, 1000, result="classes")
        return self.network


def mobilenet_v1() -> Description:
    """MobileNetV1 1.0, 224 px."""
    made = Builder(224, "relu")
    x = made.conv(made.image(), 32, 3, 2)
    for channels, stride in [
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)
    ]:  # fmt: skip
        x = made.conv(made.conv(x, x.channels, 3, stride, depthwise=True), channels)
    return made.classifier(x)


def mobilenet_v2() -> Description:
    """MobileNetV2 1.0, 224 px; ReLU in place of ReLU6, as picoquant hands over what saturates."""
    made = Builder(224, "relu")
    x = made.conv(made.image(), 32, 3, 2)
    for wider, channels, count, first in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ]:  # fmt: skip
        for number in range(count):
            stride, y = (1 if number else first), x
            if wider > 1:
                y = made.conv(y, x.channels * wider)
            y = made.conv(made.conv(y, y.channels, 3, stride, depthwise=True), channels, linear=True)
            x = made.add(x, y) if stride == 1 and x.channels == channels else y
    return made.classifier(made.conv(x, 1280))


def resnet50() -> Description:
    """ResNet50, 224 px, strides in the 3x3 convolutions."""
    made = Builder(224, "relu")
    x = made.conv(made.image(), 64, 7, 2)
    x = made.node("max", [3, 3, 2, 2, 1, 1, 1, 1], [x], 64, 56)
    for width, count, first in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for number in range(count):
            stride = 1 if number else first
            y = made.conv(made.conv(x, width), width, 3, stride)
            y = made.conv(y, 4 * width, linear=True)
            same = x.channels == 4 * width and stride == 1
            x = made.add(x if same else made.conv(x, 4 * width, 1, stride, linear=True), y)
            x = made.node("relu", [], [x], x.channels, x.size)
    return made.classifier(x)


def yolov5s() -> Description:
    """YOLOv5s 6.0, 640 px, 80 classes."""
    made = Builder(640, "hard_swish")

    def c3(x: Map, channels: int, count: int, shortcut: bool = True) -> Map:
        first, second = made.conv(x, channels // 2), made.conv(x, channels // 2)
        for _ in range(count):
            y = made.conv(made.conv(first, first.channels), first.channels, 3)
            first = made.add(first, y) if shortcut else y
        return made.conv(made.concat(first, second), channels)

    def up(x: Map) -> Map:
        return made.node("resize", [2 * x.size] * 2, [x], x.channels, 2 * x.size)

    x = made.conv(made.image(), 32, 6, 2)
    levels = []
    for channels, count in [(64, 1), (128, 2), (256, 3), (512, 1)]:
        x = c3(made.conv(x, channels, 3, 2), channels, count)
        levels.append(x)
    pools = [made.conv(x, 256)]
    for _ in range(3):
        pools.append(made.node("max", [5, 5, 1, 1, 2, 2, 2, 2], [pools[-1]], 256, x.size))
    x = made.conv(made.concat(*pools), 512)
    top = made.conv(x, 256)
    x = c3(made.concat(up(top), levels[2]), 256, 1, False)
    middle = made.conv(x, 128)
    found = [c3(made.concat(up(middle), levels[1]), 128, 1, False)]
    for channels, side in ((256, middle), (512, top)):
        x = made.conv(found[-1], channels // 2, 3, 2)
        found.append(c3(made.concat(x, side), channels, 1, False))
    for number, x in enumerate(found):
        made.conv(x, 255, linear=True, result=f"level{number}")
    return made.network


def picodet(target: str, first: bool = False) -> Description:
    """PicoDet-S-NPU, 416 px, as it is handed to a target; `first`: as it first was, with ReLU6 and outputs as rows."""
    from tests.networks.quick_int8 import exported, quick_int8

    with TemporaryDirectory() as folder, ExitStack() as stack:
        if first:  # nothing but this measurement wants the old form, so it is no setting of the real one
            stack.enter_context(patch.object(describe, "saturates_at", lambda params, value: False))
            stack.enter_context(patch.object(describe, "output_maps", lambda graph, params: {}))
        model = exported("picodet_s_416_coco_npu.yml", Path(folder) / "fp32", size=416)
        fold_folder(model.path)
        int8 = quick_int8(model, Path(folder) / "int8", weight_quantize_type="abs_max")
        simulation = NpuSimulation(int8, load_target(target).integer_rules)
        return describe.describe_network(simulation, describe.form_of(simulation))


@dataclass(frozen=True)
class Network:
    """A network of the published table: name in results, title, key of `latency_ms`, input, and how it is built."""

    name: str
    title: str
    key: str
    size: int
    build: Callable[[str], Description]


NETWORKS: Mapping[str, Network] = {
    one.name: one
    for one in (
        Network("mobilenet_v1", "MobileNetV1", "mobilenet_v1_int8_224", 224, lambda target: mobilenet_v1()),
        Network("mobilenet_v2", "MobileNetV2", "mobilenet_v2_int8_224", 224, lambda target: mobilenet_v2()),
        Network("resnet50", "ResNet50", "resnet50_int8_224", 224, lambda target: resnet50()),
        Network("picodet_416", "PicoDet-S-NPU", "picodet_relu6_int8_416", 416, picodet),
        Network(
            "picodet_416_first", "PicoDet-S-NPU", "picodet_relu6_int8_416", 416, partial(picodet, first=True)
        ),
        Network("yolov5s", "YOLOv5s", "yolov5s_int8_640", 640, lambda target: yolov5s()),
    )
}


def main() -> None:
    """Measure, print, and write a result each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS))
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--out", type=Path, help="where results go; none: they are printed alone")
    arguments = parser.parse_args()
    tool = toolchain.find(Machine())
    for name in arguments.network or NETWORKS:
        one = NETWORKS[name]
        for target in arguments.target or TARGETS:
            profile = load_target(target)
            units = totals(report(tool, toolchain.chip_of(profile, tool), one.build(target)))
            milliseconds = profile.latency_ms[one.key]["npu"]
            print(target, name, dict(units), f"{sum(units.values()) / 1e6:.2f} M", milliseconds, flush=True)
            if arguments.out:
                cycles = ", ".join(f"{unit}: {count}" for unit, count in units.items())
                latency = "unknown" if milliseconds is None else f'{{"published, ms": {milliseconds}}}'
                write_text(
                    arguments.out / f"cycles_{name}_{target}.yaml",
                    f'model: "{one.title}"\nweights: "random"\nscheme: "one scale a tensor"\n'
                    f'runtime: "emulator_{target}"\ntarget: "{target}"\n'
                    f'data: {{name: "any image", images: 1, input: {one.size}, calibration: "none"}}\n'
                    "fp32: unknown\nint8: unknown\ndifference: unknown\nfidelity: unknown\n"
                    f"cycles: {{{cycles}}}\nsize: unknown\nlatency: {latency}\n"
                    f'machine: "VeriSilicon\'s emulator of {profile.verisilicon.chip}"\n'
                    f'versions: "acuitylite {tool.version}"\n'
                    f'command: "python -m benchmarks.published_cycles --network {name} --target {target}"\n'
                    'date: "2026-11-29"\ncommit: "unknown"\n',
                )


if __name__ == "__main__":
    main()
