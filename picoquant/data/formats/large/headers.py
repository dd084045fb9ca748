"""Many small files read at a time: the sizes of images, which stand in their headers, and annotations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from picoquant.data.images import image_size

SIZES_A_SECOND = 100000  # that a process reads from files in memory, about
_READERS = 8  # threads; on a network disk each waits most of the time
_PART = 512  # images that a thread reads at a time

T = TypeVar("T")


def header_sizes(paths: Sequence[str]) -> list[tuple[int, int] | None]:
    """Width and height of image files as `image_size` gives them."""
    return in_threads(image_size, paths)


def in_threads(read: Callable[[str], T], paths: Sequence[str]) -> list[T]:
    """What `read` makes of each of many small files, several at a time."""
    parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]
    with ThreadPoolExecutor(_READERS) as pool:
        return [result for part in pool.map(lambda part: list(map(read, part)), parts) for result in part]
