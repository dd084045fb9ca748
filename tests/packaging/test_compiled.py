"""A compiled network with VeriSilicon's own driver, in its emulator: by picoquant, and by the board's program.

python -m pytest -m slow tests/packaging/test_compiled.py     where the emulator is installed
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from picoquant.backends.base import Machine
from picoquant.backends.verisilicon import toolchain
from picoquant.errors import ToolError
from picoquant.npu.emulated.compiled import CompiledNetwork, compile_for
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported, quick_int8
from tests.packaging.board import SETTINGS, build, read_arrays, write_ppm
from tests.packaging.test_board_openvx import BOARD, MODELS

SIZE = 64


@pytest.mark.slow
@pytest.mark.parametrize(("name", "symmetric"), [("a311d", True), ("imx8mp", True), ("a311d", False)])
def test_it_computes_the_simulations_integers(name, symmetric, tmp_path):
    """The detections of random weights mean nothing, so all outputs are compared: every one of them is equal."""
    from picoquant.paddle_program.batch_norm_folding import fold_folder

    try:
        tool = toolchain.find(Machine())
    except ToolError as error:
        pytest.skip(str(error))
    target = load_target(name)
    model = exported("picodet_s_416_coco_npu.yml", tmp_path / "fp32")
    fold_folder(model.path)
    scheme = {"weight_quantize_type": "abs_max", "symmetric_activations": symmetric}
    int8 = quick_int8(model, tmp_path / "int8", **scheme)
    simulation = NpuSimulation(int8, target.integer_rules)
    chip = toolchain.chip_of(target, tool)
    content, facts = compile_for(simulation, tool, chip)
    assert compile_for(simulation, tool, chip)[0] == content  # the same bytes each time

    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    image = write_ppm(tmp_path / "image.ppm", pixels)
    (tmp_path / "network_binary.nb").write_bytes(content)
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    program = build(BOARD, tmp_path / "build", f"-DOPENVX_DIR={tool.sdk}", "-DUSE_OPENCV=OFF")
    settings = {"models": MODELS, "size": [SIZE, SIZE], "strides": [8, 16, 32, 64]}
    (tmp_path / "settings.json").write_text(json.dumps({**SETTINGS, **settings}))
    environment = {
        **os.environ,
        "VIVANTE_SDK_DIR": str(tool.sdk),
        "LD_LIBRARY_PATH": str(tool.sdk / "lib"),
        "VSIMULATOR_CONFIG": chip,
        "VSIMULATOR_CONTIGUOUS_SIZE": "256",
    }
    command = [program, "--package", tmp_path, "--image", image, "--runs", "1", "--warmup", "0"]
    command += ["--save-input", tmp_path / "in", "--save-outputs", tmp_path / "out"]
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runtime"] == "OpenVX, Vivante"
    (given,) = read_arrays(tmp_path / "in")
    expected = simulation({"image": given})
    for output, wanted in zip(read_arrays(tmp_path / "out"), expected):
        np.testing.assert_array_equal(output[0].reshape(output.shape[1], -1).T, wanted[0])
    with CompiledNetwork(content, facts, tool) as network:
        for output, wanted in zip(network({"image": given}), expected):
            np.testing.assert_array_equal(output, wanted)
