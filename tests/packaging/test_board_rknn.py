"""The board's program with the interface of Rockchip's librknnrt, in both of its forms.

The library is a stub (`rknn_stub/`) that gives the image back: this shows that the program compiles, links, quantises
and brings outputs into Paddle's order; it was never linked with Rockchip's library.
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
MODEL = [{"precision": "int8", "file": "model.rknn", "sha256": "0" * 64}]
SCALE = 2.0 / 127  # of the stub's input


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    folder = tmp_path_factory.mktemp("librknn_api")
    (folder / "include").mkdir()
    shutil.copyfile(HERE / "rknn_stub/rknn_api.h", folder / "include/rknn_api.h")
    out = folder / "librknnrt.so"
    command = ["c++", "-shared", "-fPIC", "-std=c++11", "-Wall", HERE / "rknn_stub/rknn_api.cpp", "-o", out]
    subprocess.run([str(part) for part in command], check=True)
    return folder


@pytest.mark.parametrize("zero_copy", [False, True])
def test_both_interfaces_compile(zero_copy):
    if not shutil.which("c++"):
        pytest.skip("a C++ compiler is not installed")
    source = BOARD / "src" / "network_rknn.cpp"
    command = [
        "c++",
        "-std=c++11",
        "-fsyntax-only",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{HERE / 'rknn_stub'}",
        source,
    ]
    done = subprocess.run(
        [*map(str, command), *["-DRKNN_ZERO_COPY"] * zero_copy], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow  # two builds of the whole program: half a minute of CPU time
@pytest.mark.parametrize("zero_copy", [False, True])
def test_both_interfaces_give_the_integers_of_the_image(library, zero_copy, tmp_path):
    options = (
        f"-DRKNN_DIR={library}",
        f"-DRKNN_ZERO_COPY={'ON' if zero_copy else 'OFF'}",
        "-DCMAKE_BUILD_TYPE=Debug",
    )
    board = Board(build(BOARD, tmp_path / "build", *options), tmp_path)
    board.settings(models=MODEL, device="", mean=[0, 0, 0], std=[1, 1, 1], interpolation=1)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    image = write_ppm(tmp_path / "image.ppm", pixels)
    assert "model.rknn cannot be read" in board.run("--image", image, code=2)
    (tmp_path / "model.rknn").write_text("nothing")
    assert "librknn did not open" in board.run("--image", image, code=2)
    (tmp_path / "model.rknn").write_text(f"{SCALE!r} 2\n")
    saved = ("--save-input", tmp_path / "in", "--save-outputs", tmp_path / "out")
    board.run("--image", image, *saved, code=2)  # maps of 3 channels are no outputs of PicoDet
    (given,) = read_arrays(tmp_path / "in")
    outputs = read_arrays(tmp_path / "out")
    expected = 0.25 * np.rint(given / np.float32(SCALE)).clip(-128, 127)
    assert np.unique(expected).size > 40
    for output in outputs:
        assert output.shape == (1, 64 * 96, 3)
        np.testing.assert_array_equal(output[0], expected[0].reshape(3, -1).T)
    assert len(outputs) == 2


def test_a_folder_without_the_library_is_refused(library, tmp_path):
    done = subprocess.run(
        ["cmake", "-S", BOARD, "-B", tmp_path / "build", f"-DRKNN_DIR={tmp_path}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode and "holds no include/rknn_api.h and librknnrt.so" in done.stderr
