"""A small network, and a program of a few lines in the emulator's place, which speaks as `network_runner.c` does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from picoquant.backends.verisilicon.install import RUNNER, ready_program
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.npu.emulated import network as emulated
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported, quick_int8

SIZE = 64
# Compiles a network into the text that describes it. Answers an image with the bytes that the file `results` holds for
# it, ends on one that is all 255.
STAND_IN = """#!{python}
import os, sys, pathlib
folder = pathlib.Path({folder!r})
if sys.argv[3] == "compile":
    if (folder / "refuse").exists(): print("the driver refused to compile the network"); sys.exit(3)
    pathlib.Path(sys.argv[4]).write_bytes(pathlib.Path(sys.argv[1]).read_bytes()); sys.exit(0)
def say(word): os.write(int(sys.argv[3]), (word + chr(10)).encode())
(folder / "started").open("a").write("x")
if (folder / "refuse").exists():
    print((folder / "refuse").read_text() + chr(10) + "the driver refused the graph"); sys.exit(3)
if (folder / "perf").exists(): print((folder / "perf").read_text())
say("ready")
for line in sys.stdin:
    source, result = line.split()
    image = pathlib.Path(source).read_bytes()
    if set(image) == {{255}}: print("out of range"); os.abort()
    if (folder / "kill").exists(): os.kill(os.getpid(), 9)
    pathlib.Path(result).write_bytes((folder / "results").read_bytes())
    say("done")
"""


@pytest.fixture(scope="module")
def simulation(tmp_path_factory):
    """PicoDet-S-NPU of random weights, one scale a weight."""
    from picoquant.paddle_program.batch_norm_folding import fold_folder

    folder = tmp_path_factory.mktemp("emulated")
    model = exported("picodet_s_416_coco_npu.yml", folder / "fp32")
    fold_folder(model.path)
    int8 = quick_int8(model, folder / "int8", weight_quantize_type="abs_max")
    return NpuSimulation(int8, load_target("a311d").integer_rules)


@pytest.fixture
def tool(tmp_path):
    """An installation whose program is the stand-in; it answers with zeros until a test says what with."""
    return stand_in(tmp_path / "home")


def stand_in(home: Path) -> Emulator:
    """An installation in a new folder."""
    home.mkdir()
    source = emulated.Path(ready_program.__code__.co_filename).with_name("network_runner.c").read_bytes()
    program = home / f"{RUNNER}-{emulated.hashlib.sha256(source).hexdigest()[:12]}"
    program.write_text(STAND_IN.format(python=sys.executable, folder=str(home)))
    program.chmod(0o755)
    return Emulator("6.57.1", home)


@pytest.fixture
def image():
    return np.random.RandomState(3).rand(1, 3, SIZE, SIZE).astype(np.float32)
