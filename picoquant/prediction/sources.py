"""What there is to look at, as a stream of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picoquant.data.images import SUFFIXES, read_image
from picoquant.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        source: the file or `camera 0`.
        number: of the frame in a video, from 0; None for an image file.
        image: `[H, W, 3]` uint8 RGB.
        name: for a file written of it, without suffix.
    """

    source: str
    number: int | None
    image: np.ndarray
    name: str


def find(sources: Sequence[str]) -> list[tuple[str, Path | int]]:
    """What the words of a command mean: `image`, `video` or `camera`, and the path or the camera's number.

    A folder stands for the images in it and below, by name.

    Raises: `UserError` naming what is not there or is of no known kind.
    """
    found: list[tuple[str, Path | int]] = []
    for word in sources:
        path = Path(word).expanduser()
        if path.is_dir():
            images = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not images:
                raise UserError(f"{path} holds no image ({', '.join(SUFFIXES)})")
            found += [("image", file) for file in images]
        elif path.is_file() and path.suffix.lower() in SUFFIXES:
            found.append(("image", path))
        elif path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
            found.append(("video", path))
        elif word.isdigit() and not path.exists():
            found.append(("camera", int(word)))
        elif path.is_file():
            known = ", ".join((*SUFFIXES, *VIDEO_SUFFIXES))
            raise UserError(f"{path} is no image and no video; known are {known}")
        else:
            raise UserError(
                f"no such image, folder or video: {word}; a camera is given by its number, from 0"
            )
    return found


def frames(found: Sequence[tuple[str, Path | int]]) -> Iterator[Frame]:
    """The frames of what `find` found, read when they are asked for.

    Raises: `DataError` for a damaged image, `UserError` for a video or camera that does not open.
    """
    taken: set[str] = set()
    for kind, place in found:
        if kind == "image":
            yield Frame(str(place), None, read_image(place), _free(Path(place).stem, taken))
        else:
            title = str(place) if kind == "video" else f"camera {place}"
            name = _free(Path(place).stem if kind == "video" else f"camera_{place}", taken)
            yield from _of_video(place, title, name)


def _free(name: str, taken: set[str]) -> str:
    """A name that no other source has: `a`, `a_2` …"""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def _of_video(place: Path | int, title: str, name: str) -> Iterator[Frame]:
    import cv2

    capture = cv2.VideoCapture(place if isinstance(place, int) else str(place))
    try:
        number = 0
        while True:
            there, image = capture.read()
            if not there:
                break
            yield Frame(title, number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), f"{name}_{number:06d}")
            number += 1
    finally:
        capture.release()
    if not number:
        raise UserError(f"{title} gives no image: the file is damaged, or no such camera is there")
