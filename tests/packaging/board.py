"""The board's program, built for this machine, and files to run it on."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import numpy as np

from picoquant.packaging.sample import SampleImage

SOURCE = Path(__file__).parents[2] / "picoquant" / "packaging" / "board"
# The program ends with a report for every fault in memory or arithmetic.
SANITIZED = (
    "-DCMAKE_BUILD_TYPE=None",
    "-DCMAKE_CXX_FLAGS=-Werror -O0 -fsanitize=address,undefined -fno-sanitize-recover=all",
)

SETTINGS = {
    "models": [
        {"precision": "int8", "file": "model.nb", "sha256": "0" * 64},
        {"precision": "fp16", "file": "model_fp16.nb", "sha256": "1" * 64},
    ],
    "device": "verisilicon_timvx",
    "context_properties": "",
    "partition": "",
    "inputs": ["image"],
    "size": [64, 96],
    "keep_ratio": False,
    "padding": "end",
    "fill": [0, 0, 0],
    "interpolation": 2,
    "is_scale": True,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "outputs": "raw",
    "class_outputs": "logits",
    "strides": [8, 16],
    "cell_offset": 0.5,
    "nms": {"score_threshold": 0.025, "nms_threshold": 0.6, "nms_top_k": 1000, "keep_top_k": 100},
    "labels": ["red cell", 'white "cell"', "Zähler"],
}


def build(source: Path, folder: Path, *options: str) -> Path:
    """Configure and compile with warnings as errors; returns the program."""
    configure = ["cmake", "-S", source, "-B", folder, "-DCMAKE_CXX_FLAGS=-Werror", *options]
    for command in (configure, ["cmake", "--build", folder, "-j", "2"]):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "detect"


def write_arrays(path: Path, arrays) -> Path:
    parts = [b"PQA1", struct.pack("<i", len(arrays))]
    for array in arrays:
        parts += [struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape), array.astype("<f4").tobytes()]
    path.write_bytes(b"".join(parts))
    return path


def read_arrays(path: Path):
    data, arrays = path.read_bytes(), []
    assert data[:4] == b"PQA1"
    place = 8
    for _ in range(struct.unpack_from("<i", data, 4)[0]):
        rank = struct.unpack_from("<i", data, place)[0]
        shape = struct.unpack_from(f"<{rank}q", data, place + 4)
        place += 4 + 8 * rank
        count = int(np.prod(shape))
        arrays.append(np.frombuffer(data, "<f4", count, place).reshape(shape))
        place += 4 * count
    assert place == len(data)
    return arrays


def write_ppm(path: Path, image) -> Path:
    path.write_bytes(b"P6\n%d %d\n255\n" % (image.shape[1], image.shape[0]) + image.tobytes())
    return path


def blocks() -> SampleImage:
    """A picture in which the small network is sure enough of its boxes to keep them whatever rounds."""
    levels = np.random.default_rng(11).integers(0, 256, (4, 4, 3))
    return SampleImage(np.kron(levels, np.ones((8, 8, 1))).astype(np.uint8), "blocks")


class Board:
    """A folder like a package, and the program run on it."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder

    def settings(self, **changed) -> None:
        text = json.dumps({**SETTINGS, **changed}, ensure_ascii=False)
        (self.folder / "settings.json").write_text(text, encoding="utf-8")

    def run(self, *options, code=0):
        command = [self.program, "--package", self.folder, "--runs", "1", "--warmup", "0", *options]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout) if done.stdout else done.stderr.strip()
