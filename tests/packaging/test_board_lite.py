"""The board's program with Paddle Lite's interface, and `run.sh` on boards that lack something.

The interface is a stub (`lite_stub/`): this shows that the program compiles, links and starts, no more.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from picoquant.packaging.board_program import copy_program, write_board
from picoquant.targets.profiles import load_target
from tests.packaging import videos
from tests.packaging.board import SETTINGS, build
from tests.packaging.live import Live

HERE = Path(__file__).parent
BOARD = HERE.parents[1] / "picoquant" / "packaging" / "board"
COMPILERS = {"armhf": "arm-linux-gnueabihf", "arm64": "aarch64-linux-gnu"}


def stub(folder: Path, compiler: str, name: str = "paddle_light_api_shared") -> Path:
    """A library folder as Paddle Lite's release has it."""
    (folder / "include").mkdir(parents=True)
    (folder / "lib").mkdir()
    shutil.copyfile(HERE / "lite_stub/paddle_api.h", folder / "include/paddle_api.h")
    command = [compiler, "-shared", "-fPIC", "-std=c++11", HERE / "lite_stub/paddle_api.cpp"]
    out = folder / "lib" / f"lib{name}.so"
    subprocess.run([*map(str, command), "-o", str(out)], check=True)
    return folder


@pytest.fixture(scope="module")
def with_stub(tmp_path_factory):
    """The program linked with the stub."""
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    folder = tmp_path_factory.mktemp("lite")
    library = stub(folder / "cxx", "c++")
    return build(BOARD, folder / "build", f"-DPADDLE_LITE_DIR={library}", "-DCMAKE_BUILD_TYPE=Debug")


def test_light_api_starts_and_says_what_is_wrong(with_stub, tmp_path):
    import numpy as np

    from tests.packaging.board import Board, write_ppm

    board = Board(with_stub, tmp_path)
    image = write_ppm(tmp_path / "image.ppm", np.zeros((64, 96, 3), np.uint8))
    board.settings()
    assert "model.nb cannot be read" in board.run("--image", image, code=2)
    (tmp_path / "model.nb").write_bytes(b"")
    board.settings(device="another")
    assert "NNAdapter does not reach the device another" in board.run("--image", image, code=2)
    board.settings()
    said = board.run("--image", image, "--cache", tmp_path / "cache", code=2)
    assert "Paddle Lite did not open model.nb" in said
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["0" * 16]  # one a model
    said = board.run("--image", image, "--model", "fp16", code=2)
    assert "model_fp16.nb cannot be read" in said
    (tmp_path / "model_fp16.nb").write_bytes(b"")
    cached = ("--cache", tmp_path / "cache")
    assert "did not open model_fp16.nb" in board.run("--image", image, "--model", "fp16", *cached, code=2)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["0" * 16, "1" * 16]
    said = board.run("--image", image, "--model", "fp32", code=2)
    assert "--model: the package has no fp32 model; it has int8, fp16" in said


@pytest.mark.parametrize(
    "options, said",
    [
        ((), "threads 2, power 0"),  # LITE_POWER_HIGH, as Paddle-Lite-Demo's picodet_detection
        (("--threads", "1", "--power", "none"), "threads 1, power 3"),
        (("--power", "low"), "threads 2, power 1"),
        (("--power", "full"), "threads 2, power 2"),
    ],
)
def test_two_threads_and_high_power_by_default(with_stub, tmp_path, monkeypatch, options, said):
    import numpy as np

    from tests.packaging.board import Board, write_ppm

    board = Board(with_stub, tmp_path)
    board.settings()
    (tmp_path / "model.nb").write_bytes(b"")
    image = write_ppm(tmp_path / "image.ppm", np.zeros((64, 96, 3), np.uint8))
    monkeypatch.setenv("LITE_STUB_SAYS", "1")
    for source in ("--image", "--source"):
        command = [with_stub, "--package", tmp_path, source, image, *options]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 2 and ", ".join(done.stderr.splitlines()[:2]) == said


@pytest.mark.slow
@pytest.mark.parametrize("abi", COMPILERS)
@pytest.mark.parametrize("full", [False, True])
def test_cross_compiled_for_the_boards(abi, full, tmp_path):
    compiler = f"{COMPILERS[abi]}-g++"
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed: apt-get install g++-{COMPILERS[abi]}")
    name = "paddle_full_api_shared" if full else "paddle_light_api_shared"
    library = stub(tmp_path / "cxx", compiler, name)
    copy_program(tmp_path / "board")
    options = [f"-DPADDLE_LITE_DIR={library}", f"-DUSE_FULL_API={'ON' if full else 'OFF'}"]
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={tmp_path / 'board' / f'{abi}.cmake'}"
    program = build(tmp_path / "board", tmp_path / "build", toolchain, *options)
    head = program.read_bytes()[:20]
    machine = int.from_bytes(head[18:20], "little")  # of ELF: 40 ARM, 183 AArch64
    assert (head[4], machine) == {"armhf": (1, 40), "arm64": (2, 183)}[abi]
    # The program itself on an emulated CPU: a video's frames, drawn.
    emulator = {"armhf": "qemu-arm", "arm64": "qemu-aarch64"}[abi]
    if not shutil.which(emulator):
        pytest.skip(f"compiled, not run: {emulator} is not installed: apt-get install qemu-user")
    runs = Live(program, None, tmp_path)
    video = videos.y4m(tmp_path / "video.y4m", videos.pictures(2))
    command = [emulator, "-L", f"/usr/{COMPILERS[abi]}", "-E", f"LD_LIBRARY_PATH={library / 'lib'}", program]
    options = [
        "--package",
        tmp_path,
        "--outputs",
        runs.outputs,
        "--source",
        video,
        "--draw",
        tmp_path / "drawn.y4m",
    ]
    done = subprocess.run([str(part) for part in (*command, *options)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0]["detections"][0]["box"] == [10.0, 20.0, 40.0, 40.0] and rows[-1]["summary"]["frames"] == 2
    # To the byte what this machine's program draws, but for the frame rate in the second frame.
    if not full:
        here = build(BOARD, tmp_path / "here", "-DUSE_OPENCV=OFF")
        again = [here, *options[:-1], tmp_path / "here.y4m"]
        subprocess.run([str(part) for part in again], check=True, capture_output=True)
        frame = len("FRAME\n") + 64 * 48 * 3 // 2
        assert (tmp_path / "drawn.y4m").read_bytes()[:-frame] == (tmp_path / "here.y4m").read_bytes()[:-frame]


class Shell:
    """`run.sh` with commands of a board before those of this machine."""

    def __init__(self, folder: Path, target: str) -> None:
        self.board = folder / "package" / "board"
        self.commands = folder / "bin"
        self.commands.mkdir()
        write_board_files(folder / "package", target)

    def command(self, name: str, says: str) -> None:
        path = self.commands / name
        path.write_text(f"#!/bin/sh\n{says}\n")
        path.chmod(0o755)

    def run(self, *options: str):
        path = f"{self.commands}{os.pathsep}{os.environ['PATH']}"
        command = ["sh", str(self.board / "run.sh"), *options]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})


def write_board_files(folder: Path, target: str) -> None:
    folder.mkdir()
    write_board(folder, load_target(target), SETTINGS)
    (folder / "environment.sh").write_text("export VSI_NN_LOG_LEVEL='0'\n")


@pytest.fixture
def shell(tmp_path):
    """An RV1126 with everything it needs."""
    shell = Shell(tmp_path, "rv1126")
    shell.command("uname", "echo armv7l")
    shell.command("dmesg", 'echo "[    1.2] Galcore version 6.4.6.5.351518"')
    (shell.board / "lib").mkdir()
    for line in (shell.board / "target.sh").read_text().splitlines():
        if line.startswith("TARGET_LIBRARIES="):
            for name in line.split("'")[1].split():
                (shell.board / "lib" / name).write_bytes(b"\x7fELF\x01\x01\x01")
    (shell.board / "build").mkdir()
    program = shell.board / "build/detect"
    program.write_text('#!/bin/sh\necho "$VSI_NN_LOG_LEVEL $LD_LIBRARY_PATH"\necho "$@"\n')
    program.chmod(0o755)
    return shell


def test_run_script_starts_the_program_on_a_board_that_has_everything(shell):
    done = shell.run()
    assert done.returncode == 0, done.stderr
    environment, options = done.stdout.splitlines()
    package = shell.board.parent
    assert environment.startswith(f"0 {shell.board}/lib")
    expected = f"--expected {package}/sample/expected.json"
    assert options == f"--package {package} --cache {shell.board}/cache {expected}"
    assert "may take more than a minute" in done.stderr
    assert shell.run("--runs", "9").stdout.splitlines()[1].endswith("cache --runs 9")
    # One model alone is compared with what is expected of it.
    assert shell.run("--model", "fp16").stdout.splitlines()[1].endswith(f"--model fp16 {expected}")
    (package / "sample").mkdir()
    (package / "sample/expected_fp32.json").write_text("{}")
    for precision, name in (("fp16", "expected_fp32.json"), ("int8", "expected.json")):
        line = shell.run("--model", precision).stdout.splitlines()[1]
        assert line.endswith(f"--model {precision} --expected {package}/sample/{name}")


def test_run_script_names_what_is_missing(shell):
    shell.command("uname", "echo aarch64_be")
    shell.command("dmesg", 'echo "Galcore version 6.4.4.3.310723AAA"')
    (shell.board / "lib/libGAL.so").unlink()
    (shell.board / "lib/libnnadapter.so").write_bytes(b"\x7fELF\x02\x01\x01")
    (shell.board / "build/detect").unlink()
    done = shell.run()
    assert done.returncode == 2 and not done.stdout
    for said in (
        "this machine is aarch64_be, the package is for rv1126 (armhf)",
        "libGAL.so is missing",
        "libnnadapter.so is of 64 bits, rv1126 needs 32 (armhf)",
        "the NPU's driver galcore is 6.4.4.3.310723AAA, Paddle Lite needs 6.4.6.5",
        "no program",
    ):
        assert said in done.stderr


def test_run_script_without_driver_and_without_library_folder(shell):
    shell.command("dmesg", "exit 1")
    shutil.rmtree(shell.board / "lib")
    done = shell.run()
    assert done.returncode == 2
    assert "the NPU's driver is not loaded (no galcore in dmesg and /sys/module)" in done.stderr
    assert "no library folder" in done.stderr
