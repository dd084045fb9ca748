"""What this machine can do with files at most: parsing JSON, opening, reading, writing. Measured."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import least_seconds

_PARSERS = (("json", "loads"), ("orjson", "loads"), ("ujson", "loads"), ("msgspec.json", "decode"))
_OBJECTS, _CORNERS = 2000, 44  # of the JSON that is parsed; numbers of an outline, as in COCO's
_FILES, _HEADER = 200, 4096  # that are opened; bytes read of each
_WRITTEN = 32 << 20


@dataclass(frozen=True)
class FileRates:
    """The rates of a machine with so many threads, a second.

    Attributes:
        threads: that worked.
        json: bytes of annotations that the fastest parser here makes objects of, in one thread, times `threads`.
        parser: its name.
        opened: files opened and the first 4 kB of them read, in one thread, times `threads`; from the page cache.
        written, read: bytes of a file, through the page cache, in one thread.
    """

    threads: int
    json: float
    parser: str
    opened: float
    written: float
    read: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measured_files(threads: int) -> FileRates:
    """Measure this machine; takes some seconds."""
    rate, parser = json_rate()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        opened = open_rate(folder)
        written, read = copy_rates(folder / "large")
    return FileRates(threads, rate * threads, parser, opened * threads, written, read)


def json_rate() -> tuple[float, str]:
    """Bytes a second of the fastest parser that can be imported, and its name."""
    random = np.random.default_rng(0)
    text = json.dumps(
        [
            {
                "segmentation": [np.round(600 * random.random(_CORNERS), 2).tolist()], "area": 5213.5, "iscrowd": 0,
                "image_id": 397133, "bbox": [217.62, 240.54, 38.99, 57.75], "category_id": 44, "id": number,
            }
            for number in range(_OBJECTS)
        ]
    ).encode()  # fmt: skip
    return max(
        (len(text) / least_seconds(lambda parse=parse: parse(text)), name) for name, parse in _parsers()
    )


def _parsers() -> Iterator[tuple[str, Callable[[bytes], Any]]]:
    for name, function in _PARSERS:
        try:
            yield name, getattr(importlib.import_module(name), function)
        except ImportError:
            continue


def open_rate(folder: Path) -> float:
    """Files a second of opening one, reading its header and closing it."""
    paths = [str(folder / f"{number}.jpg") for number in range(_FILES)]
    for path in paths:
        Path(path).write_bytes(bytes(10 * _HEADER))

    def read() -> None:
        for path in paths:
            file = os.open(path, os.O_RDONLY)
            os.read(file, _HEADER)
            os.close(file)

    return _FILES / least_seconds(read)


def copy_rates(path: Path) -> tuple[float, float]:
    """Bytes a second of writing a file anew, and of reading it."""
    data = bytes(_WRITTEN)

    def write() -> None:
        path.write_bytes(data)

    return _WRITTEN / least_seconds(write), _WRITTEN / least_seconds(path.read_bytes)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured_files(len(os.sched_getaffinity(0))).as_dict()) + "\n")
