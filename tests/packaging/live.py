"""The board's program on a source, and a camera and a screen for it: see `device_stub/`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np

from tests.packaging.board import Board, write_arrays

HERE = Path(__file__).parent
# A box, red cells' colour, in a picture of 64x48; and one too faint to be shown.
FOUND = [[0, 0.9, 10, 20, 40, 40], [1, 0.2, 0, 0, 5, 5]]


def build_devices(folder: Path) -> Path:
    """The preloaded library with the camera and the screen."""
    library = folder / "devices.so"
    source = HERE / "device_stub" / "devices.cpp"
    command = [
        "c++",
        "-shared",
        "-fPIC",
        "-std=c++11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-maybe-uninitialized",
        source,
        "-o",
        library,
    ]
    subprocess.run([str(part) for part in command], check=True)
    return library


class Live(Board):
    """A folder like a package, and the program run on a source."""

    def __init__(self, program: Path, devices: Path | None, folder: Path) -> None:
        super().__init__(program, folder)
        self.devices = devices
        self.settings(outputs="detections")
        self.found(FOUND)

    def found(self, rows) -> None:
        """What the network finds in every frame: rows of class, score, box."""
        rows = np.array(rows, np.float32).reshape(-1, 6)
        self.outputs = write_arrays(self.folder / "found.bin", [rows, np.array([len(rows)])])

    def start(self, source, *options, **environment):
        """The program as a process."""
        faults = "exitcode=99:verify_asan_link_order=0:detect_leaks=0"
        variables = {**os.environ, "ASAN_OPTIONS": faults, "UBSAN_OPTIONS": "exitcode=99", **environment}
        variables["LD_PRELOAD"] = str(self.devices)
        command = [
            self.program,
            "--package",
            self.folder,
            "--outputs",
            self.outputs,
            "--source",
            source,
            *options,
        ]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([str(part) for part in command], env=variables, **pipes)

    def live(self, source, *options, code=0, data=b"", **environment):
        """Its lines on stdout, the last one the summary's values, and what it says."""
        process = self.start(source, *options, **environment)
        out, said = (text.decode() for text in process.communicate(data, timeout=60))
        assert process.returncode == code, said + out
        rows = [json.loads(line) for line in out.splitlines()]
        return rows, said

    def refused(self, source, *options, **environment) -> str:
        """What it says, one line, when it prints nothing and ends with exit code 2."""
        rows, said = self.live(source, *options, code=2, **environment)
        assert not rows and said.count("\n") == 1, said
        return said.strip()

    def shown(self, source, *options, size, **environment) -> np.ndarray:
        """The first frame `[H, W, 3]` as it is on a screen of its own size (H, W)."""
        height, width = size
        self.found([])
        memory = self.folder / "screen.bin"
        memory.write_bytes(bytes(4 * height * width))
        screen = {"SCREEN": f"{width}x{height}x32", "SCREEN_SHIFTS": "16,8,0", "SCREEN_MEMORY": str(memory)}
        self.live(source, "--frames", 1, "--draw", "/dev/fb0", *options, **screen, **environment)
        pixels = np.frombuffer(memory.read_bytes(), np.uint8).reshape(height, width, 4)
        return pixels[..., 2::-1]


def interrupt(process) -> tuple[str, str]:
    """What a process says that is asked to end."""
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    return out.decode(), said.decode()


def checks(height=48, width=64, seed=1):
    """A picture in which the pixels that share chroma are alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 2), -(-width // 2), 3))
    return np.kron(blocks, np.ones((2, 2, 1))).astype(np.uint8)[:height, :width]
