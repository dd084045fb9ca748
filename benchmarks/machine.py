"""What this machine can do at most: convolutions, memory, JPEG. Measured, not read from a data sheet."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
_SHAPES = (
    (256, 1, 52),
    (128, 3, 52),
    (512, 1, 26),
    (256, 3, 26),
)  # channels in and out, kernel, height and width
_CONVOLUTIONS = 6  # one after the other in a model
_ARRAYS = (256 << 10, 4 << 20, 16 << 20, 256 << 20)  # bytes of an array that is copied: L2, L3, L3, memory
_SECONDS = 0.6  # of each measurement


@dataclass(frozen=True)
class Machine:
    """The rates of a machine with so many threads.

    Attributes:
        threads: that worked.
        macs: precision -> multiply-accumulates a second of convolutions, the best of several shapes (oneDNN's, through
            OpenVINO); precisions that the processor has no instructions for are missing.
        copied: (bytes of an array, bytes a second read and written together), small arrays first.
        jpegs: pixels a second of decoding.
    """

    threads: int
    macs: dict[str, float]
    copied: tuple[tuple[int, float], ...]
    jpegs: float

    def bandwidth(self, size: float) -> float:
        """Bytes a second, read and written, for data of so many bytes: of the level of memory that it fits into."""
        for limit, rate in self.copied:
            if size <= 2 * limit:  # a copy is two arrays
                return rate
        return self.copied[-1][1]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measured_machine(threads: int) -> Machine:
    """Measure this machine; takes some twenty seconds."""
    macs = {precision: convolution_rate(precision, threads) for precision in precisions()}
    copied = tuple((size, copy_rate(size, threads)) for size in _ARRAYS)
    return Machine(threads, macs, copied, jpeg_rate(threads))


def precisions() -> tuple[str, ...]:
    """Precisions that this processor multiplies in; INT8 only with VNNI, BF16 only with AVX512-BF16 or AMX."""
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        flags = set(next(line for line in stream if line.startswith("flags")).split())
    found = ["fp32"]
    if flags & {"avx512_bf16", "amx_bf16"}:
        found.append("bf16")
    if flags & {"avx512_vnni", "avx_vnni"}:
        found.append("int8")
    return tuple(found)


def convolution_rate(precision: str, threads: int) -> float:
    """Multiply-accumulates a second of convolutions alone, the best of several shapes."""
    import openvino

    core, best = openvino.Core(), 0.0
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    for channels, kernel, side in _SHAPES:
        model = _convolutions(channels, kernel, side, precision == "int8")
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        image = np.random.default_rng(0).random((1, channels, side, side), dtype="float32")
        macs = _CONVOLUTIONS * (channels * kernel * side) ** 2
        best = max(best, macs / least_seconds(lambda request=request, image=image: request.infer([image])))
    return best


def _convolutions(channels: int, kernel: int, side: int, int8: bool) -> Any:
    """A model of convolutions and ReLUs, rounded to 8 bits between them where `int8`."""
    import openvino
    from openvino import opset13 as op

    random = np.random.default_rng(0)
    image = op.parameter([1, channels, side, side], np.float32)
    out, low, high = image, np.float32(0), np.float32(255 / 64)

    def rounded(tensor: Any, least: Any, most: Any, levels: int) -> Any:
        return op.fake_quantize(tensor, least, most, least, most, levels)

    for _ in range(_CONVOLUTIONS):
        weights = op.constant(random.normal(0, 0.05, (channels, channels, kernel, kernel)).astype("float32"))
        if int8:
            out = rounded(out, low, high, 256)
            weights = rounded(weights, np.float32(-0.254), np.float32(0.254), 255)
        pads = [kernel // 2] * 2
        out = op.relu(op.convolution(out, weights, [1, 1], pads, pads, [1, 1]))
    return openvino.Model([out], [image])


def copy_rate(size: int, threads: int) -> float:
    """Bytes a second of copying arrays of so many bytes, each thread its own pair: read and written, both counted."""
    pairs = [(np.ones(size, "uint8"), np.zeros(size, "uint8")) for _ in range(threads)]
    again = max(1, (8 << 20) // size)

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(again):
            np.copyto(pair[1], pair[0])

    with ThreadPoolExecutor(threads) as pool:
        return 2 * size * again * threads / least_seconds(lambda: list(pool.map(copy, pairs)))


def jpeg_rate(threads: int, height: int = 480, width: int = 640) -> float:
    """Pixels a second of decoding JPEGs with OpenCV: smooth noise at quality 90, some 2 bits a pixel as photographs."""
    import cv2
    from PIL import Image

    rough = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype="uint8")
    stream = io.BytesIO()
    Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).save(stream, "jpeg", quality=90)
    data, again = np.frombuffer(stream.getvalue(), "uint8"), 8
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)

    def decode(_: int) -> None:
        for _ in range(again):
            cv2.imdecode(data, cv2.IMREAD_COLOR)

    try:
        with ThreadPoolExecutor(threads) as pool:
            return (
                again
                * threads
                * height
                * width
                / least_seconds(lambda: list(pool.map(decode, range(threads))))
            )
    finally:
        cv2.setNumThreads(before)


def least_seconds(call: Callable[[], Any]) -> float:
    """The least time of a call, after three that do not count."""
    for _ in range(3):
        call()
    least, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - began)
    return least


def busy_share(seconds: float) -> float:
    """How much of all processors others take in the coming seconds, 0 to 1 (Linux: /proc/stat)."""

    def ticks() -> tuple[int, int]:
        with open("/proc/stat", encoding="ascii") as file:
            counts = [
                int(text) for text in file.readline().split()[1:9]
            ]  # user nice system idle iowait irq softirq steal
        return sum(counts), counts[3] + counts[4]

    before, idle_before = ticks()
    time.sleep(seconds)
    after, idle_after = ticks()
    return 1 - (idle_after - idle_before) / max(1, after - before)
