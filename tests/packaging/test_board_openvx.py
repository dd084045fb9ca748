"""The board's program with VeriSilicon's OpenVX, which runs a compiled network.

The library is a stub (`openvx_stub/`) that gives the image back: this shows that the program compiles, links,
quantises and brings outputs into Paddle's order. With the vendor's library it runs in `test_compiled.py`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.packaging.board import Board, build, read_arrays, write_ppm

HERE = Path(__file__).parent
BOARD = HERE.parents[1] / "picoquant" / "packaging" / "board"
MODELS = [
    {"precision": "int8", "file": "model.nb", "sha256": "0" * 64},
    {"precision": "compiled", "file": "network_binary.nb", "sha256": "1" * 64},
]


def test_it_compiles_without_warnings():
    if not shutil.which("c++"):
        pytest.skip("a C++ compiler is not installed")
    flags = ["-std=c++11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{HERE / 'openvx_stub'}"]
    command = ["c++", *flags, str(BOARD / "src" / "network_openvx.cpp")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow  # a build of the whole program
def test_it_gives_the_integers_of_the_image(tmp_path):
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    sdk = tmp_path / "sdk"
    shutil.copytree(HERE / "openvx_stub" / "VX", sdk / "include" / "VX")
    (sdk / "lib").mkdir()
    command = ["c++", "-shared", "-fPIC", "-std=c++11", f"-I{sdk / 'include'}"]
    command += [str(HERE / "openvx_stub/openvx.cpp"), "-o", str(sdk / "lib/libOpenVX.so")]
    subprocess.run(command, check=True)
    options = (f"-DOPENVX_DIR={sdk}", "-DCMAKE_BUILD_TYPE=Debug")
    board = Board(build(BOARD, tmp_path / "build", *options), tmp_path)
    board.settings(models=MODELS, device="", mean=[0, 0, 0], std=[1, 1, 1], interpolation=1)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    image = write_ppm(tmp_path / "image.ppm", pixels)
    assert "network_binary.nb cannot be read" in board.run("--image", image, code=2)
    network = tmp_path / "network_binary.nb"
    network.write_text("nothing")
    assert "the NPU's driver did not open" in board.run("--image", image, code=2)
    assert "runs the compiled network alone" in board.run("--image", image, "--model", "int8", code=2)
    saved = ("--save-input", tmp_path / "in", "--save-outputs", tmp_path / "out")
    for kind, zero, bits in (("uint8", 128, 32), ("int8", 0, 64)):
        network.write_text(f"{kind} 0.015625 {zero} 0.25 {zero} 3 64 96 {bits}")
        board.run("--image", image, *saved, code=2)  # one map of 3 channels is no output of PicoDet
        (given,), (output,) = read_arrays(tmp_path / "in"), read_arrays(tmp_path / "out")
        expected = 0.25 * np.rint(given / np.float32(0.015625)).clip(-128, 127)
        assert np.unique(expected).size > 40
        np.testing.assert_array_equal(output, expected)
    network.write_text("uint8 0.015625 128 0.25 128 3 32 96 32")
    assert "images of another size than settings.json" in board.run("--image", image, code=2)
    board.settings()
    assert "the package has no compiled model; it has int8, fp16" in board.run("--image", image, code=2)
