"""Images, videos and cameras as a stream of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picoquant.data.formats.files import files_below
from picoquant.data.images import SUFFIXES, UnreadableImageError, read_image
from picoquant.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True)
class Unreadable:
    """A source that gives no frame.

    Attributes:
        source: path of the file, or `camera 0`.
        reason: what is wrong, one line.
    """

    source: str
    reason: str


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    Attributes:
        source: path of the file, or `camera 0`.
        number: index of the frame in a video or camera stream, from 0; None for an image file.
        image: `[H, W, 3]` uint8 RGB.
        name: file name for its annotated image, without suffix; unique among the sources.
    """

    source: str
    number: int | None
    image: np.ndarray
    name: str


def find(sources: Sequence[str]) -> list[tuple[str, Path | int]]:
    """Resolve the sources of a command line.

    Args:
        sources: paths of images, videos or folders, and numbers of cameras. A folder stands for all images in
            it and in its subfolders, sorted by path.

    Returns: for each source, `image`, `video` or `camera`, and the path or the camera's number.

    Raises: `UserError` naming a source that does not exist or whose file type is unknown.
    """
    found: list[tuple[str, Path | int]] = []
    for word in sources:
        path = Path(word).expanduser()
        if path.is_dir():
            images = sorted(map(Path, files_below(path, SUFFIXES)))
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


def frames(found: Sequence[tuple[str, Path | int]]) -> Iterator[Frame | Unreadable]:
    """Iterate over the frames of the sources that `find` returned; each is read when it is needed.

    A damaged image, and a video or camera that does not open, gives an `Unreadable`; the others follow.
    """
    used: set[str] = set()
    for kind, source in found:
        if isinstance(source, int):
            yield from _video_frames(source, f"camera {source}", _unique(f"camera_{source}", used))
            continue
        name = _unique(source.stem, used)
        if kind == "image":
            try:
                yield Frame(str(source), None, read_image(source), name)
            except UnreadableImageError as error:
                yield Unreadable(str(source), str(error))
        else:
            yield from _video_frames(source, str(source), name)


def _unique(name: str, used: set[str]) -> str:
    """A name that is not in `used`, to which it is added: `a`, `a_2` …"""
    number, unique = 1, name
    while unique in used:
        number += 1
        unique = f"{name}_{number}"
    used.add(unique)
    return unique


def _video_frames(source: Path | int, title: str, name: str) -> Iterator[Frame | Unreadable]:
    import cv2

    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        number = 0
        while True:
            read, image = capture.read()
            if not read:
                break
            yield Frame(title, number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), f"{name}_{number:06d}")
            number += 1
    finally:
        capture.release()
    if not number:
        yield Unreadable(title, f"{title} gives no image: the file is damaged, or no such camera is there")
