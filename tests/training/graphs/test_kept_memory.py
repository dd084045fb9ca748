"""What oneDNN keeps for each size is given back before it would not fit, and only then."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import paddle
import pytest
from paddle.base import core

from picoquant import build_detector
from picoquant.training.fast import FastLayers, fast_convolutions_available, tuned_cpu
from picoquant.training.graphs.kept_memory import KeptMemory
from picoquant.training.graphs.rewrite import Rewrite

SIZES = (64, 96, 64)


class Machine:
    """Memory of which a step takes 5 a size at first and 2 for each size that follows."""

    def __init__(self, free: int) -> None:
        self.free, self.cleared, self._kept = free, [], 0

    def give_back(self) -> None:
        self.cleared.append(self.free)
        self.free, self._kept = self.free + self._kept, 0

    def step(self, taken: int) -> None:
        self.free -= taken
        self._kept += 2


def steps(machine, shapes, known=True):
    kept = KeptMemory(lambda: machine.free if known else None, machine.give_back)
    taken = {}
    for shape in shapes:
        kept.before_step(shape)
        if machine.cleared and machine.cleared[-1:] != taken.get("at"):
            taken = {"at": machine.cleared[-1:]}
        machine.step(0 if shape in taken else 2 if taken else 5)
        taken[shape] = True


FIVE = [(8, 3, side, side) for side in (352, 384, 416, 448, 480)]


def test_nothing_is_given_back_where_all_sizes_fit():
    machine = Machine(100)
    steps(machine, FIVE * 3)
    assert not machine.cleared


def test_it_is_given_back_when_the_next_size_might_not_fit():
    machine = Machine(13)
    steps(machine, FIVE)  # 13 - 5 = 8, then 6, and 4, which is twice 2: it is given back
    assert machine.cleared == [4]


def test_where_the_free_memory_is_unknown_nothing_is():
    machine = Machine(1)
    steps(machine, FIVE, known=False)
    assert not machine.cleared


@pytest.mark.skipif(not fast_convolutions_available(), reason="this paddle has no oneDNN")
def test_what_is_computed_stays_the_same(root):
    counted = []

    def given_back() -> None:
        counted.append(True)
        core.clear_executor_cache()

    def losses(clear: bool) -> list[float]:
        paddle.seed(0)
        model = build_detector(root / "configs/picodet_s_416_coco_npu.yml", 3)
        model.train()
        layers = FastLayers(model, Rewrite)
        layers._kept = KeptMemory(lambda: 0 if clear else None, given_back)
        optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters())
        random, found = np.random.RandomState(0), []
        for side in SIZES:
            image = paddle.to_tensor(random.rand(2, 3, side, side).astype("float32"))
            box = paddle.to_tensor([[[4.0, 4.0, side / 2, side / 2]]] * 2)
            layers.before_step(image.shape)
            with layers.on():
                loss = model.loss(image, box, paddle.zeros([2, 1, 1], "int32"), paddle.ones([2, 1, 1]), 0)[
                    "loss"
                ]
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            found.append(loss.item())
        return found

    with tuned_cpu():
        assert losses(clear=True) == losses(clear=False)
    assert len(counted) == len(SIZES) - 1


MEASURE = """
import sys
import numpy as np
import picoquant, paddle
from picoquant import build_detector
from picoquant.training.fast import FastLayers, tuned_cpu
from picoquant.training.graphs.rewrite import ChannelsLast
from picoquant.training.graphs.kept_memory import KeptMemory

model = build_detector(sys.argv[1], 3)
layers = FastLayers(model, ChannelsLast)
layers._kept = KeptMemory(lambda: 0 if sys.argv[2] == "short" else None)
with tuned_cpu():
    for side in (320, 288, 256, 352, 224):
        image = paddle.rand([4, 3, side, side])
        layers.before_step(image.shape)
        with layers.on():
            loss = sum(one.sum() for one in model.predicted(image)[0])
        loss.backward()
        model.clear_gradients()
print([int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_sizes_before_is_used_again(root):
    def peak(how: str) -> int:
        words = [sys.executable, "-c", MEASURE, str(root / "configs/picodet_s_416_coco_npu.yml"), how]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=root)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    assert peak("short") < 0.8 * peak("much")
