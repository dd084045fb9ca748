"""Read one image file as RGB, noticing files that are cut short."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Callable

import numpy as np

from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_JPEG_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])  # TEM, RSTn, SOI


class UnreadableImageError(DataError):
    """An image file that is missing, cut short, or no image."""


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file to [H, W, 3] uint8, RGB, turned as its EXIF orientation says.

    PaddleDetection's `Decode` gives the same pixels, but fills what a truncated file lacks with grey.

    Raises: `UnreadableImageError` naming the file.
    """
    import cv2

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot read image {path}: {error.strerror}") from error
    reason = None
    if not data:
        reason = "is empty"
    elif _cut_short(data):
        reason = "is truncated"
    else:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            reason = "cannot be decoded" if image is None else None
        except cv2.error as error:
            large = (
                "IMAGE_PIXELS" in str(error) or "IMAGE_WIDTH" in str(error) or "IMAGE_HEIGHT" in str(error)
            )
            reason = "has too many pixels" if large else f"cannot be decoded ({error.err or error.code})"
    if reason:
        raise UnreadableImageError(f"image {path} {reason}; replace the file or leave it out")
    if _may_be_deep(data) and image.max() < _DARK:
        _tell_dark(path, data)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


_DARK = 64  # of 255


def _may_be_deep(data: bytes) -> bool:
    """Whether a file may have more than 8 bits a channel: a PNG that says so, or a TIFF."""
    return (data.startswith(b"\x89PNG") and data[24:25] == b"\x10") or data[:4] in (b"II*\0", b"MM\0*")


def _tell_dark(path: str | Path, data: bytes) -> None:
    """Say that of 16 bits the upper 8 are taken, where the values are in the lower: cameras of 10 and 12 bits."""
    import cv2

    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if deep is not None and deep.dtype == np.uint16:
        LOG.warning(
            "image %s has 16 bits a channel, but no value above %d of 65535: it is read as nearly black; scale its "
            "values to 65535, or save it with 8 bits",
            path,
            deep.max(),
        )


def _cut_short(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end. OpenCV decodes those without complaint."""
    if data.startswith(b"\xff\xd8"):
        scan = _jpeg_scan_start(data)
        return scan is None or data.rfind(b"\xff\xd9", scan) < 0
    if data.startswith(b"\x89PNG"):
        return data.rfind(b"IEND") < 0
    return False


def _jpeg_scan_start(data: bytes) -> int | None:
    """Offset of the first scan's data, found by stepping over the segments before it.

    A thumbnail inside an EXIF segment has an end marker of its own, so one cannot just search for it.
    """
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            at += 2
        else:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == 0xDA:
                return at + 2 + length
            at += 2 + length
    return None


_HEADER = 1024  # bytes, in which most JPEGs have their size
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn: what the picture's size stands in
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values that change the sides


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height of what `read_image` gives, from the header (JPEG, PNG, BMP, WebP): 20 microseconds.

    Returns: None for a file of another kind, a damaged one, or one that is not there, and for a WebP with EXIF, which
        not every version of OpenCV turns.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        start = os.pread(file, _HEADER, 0)

        def read(at: int, count: int) -> bytes:
            return start[at : at + count] if at + count <= _HEADER else os.pread(file, count, at)

        if start.startswith(b"\xff\xd8"):
            return _jpeg_size(read)
        if start.startswith(b"\x89PNG\r\n\x1a\n") and start[12:16] == b"IHDR":
            return _png_size(read)
    except OSError:
        return None
    finally:
        os.close(file)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _webp_size(start)
    if start.startswith(b"BM") and start[14:18] == b"\x28\0\0\0":  # the usual header of 40 bytes
        return _sides(start[18:22], start[22:26], "little")
    return None


def header_fault(path: str | Path) -> str | None:
    """What is wrong with an image file as far as its size and header tell, in words that follow its name.

    Pixels are not decoded: `read_image` finds files that are cut short, too.

    Returns: None for a file that may be read.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(8)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not start:
        return "is empty"
    if image_size(path) is not None:
        return None
    if start.startswith((b"\xff\xd8", b"\x89PNG")):
        return "has a damaged header"
    import cv2

    return None if cv2.haveImageReader(str(path)) else "is no image that OpenCV reads"


def _sides(width: bytes, height: bytes, order: str) -> tuple[int, int] | None:
    sides = int.from_bytes(width, order, signed=True), abs(int.from_bytes(height, order, signed=True))
    return sides if min(sides) > 0 else None


def _png_size(read: Callable[[int, int], bytes]) -> tuple[int, int] | None:
    """The size in a PNG's header, its sides changed where a chunk `eXIf` says so; `read` as in `_jpeg_size`."""
    sides, at = _sides(read(16, 4), read(20, 4), "big"), 8
    while sides:
        head = read(at, 8)
        if len(head) < 8 or head[4:] == b"IEND":
            return sides
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            turned = _tiff_orientation(read(at + 8, length)) in _TURNED
            return (sides[1], sides[0]) if turned else sides
        at += 12 + length
    return None


def _webp_size(start: bytes) -> tuple[int, int] | None:
    kind = start[12:16]
    if kind == b"VP8 " and start[23:26] == b"\x9d\x01\x2a":
        bits = int.from_bytes(start[26:30], "little")
        return (bits & 0x3FFF, bits >> 16 & 0x3FFF) if len(start) >= 30 else None
    if kind == b"VP8L" and start[20:21] == b"\x2f" and len(start) >= 25:
        bits = int.from_bytes(start[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(start) >= 30 and not start[20] & 0x0A:  # EXIF, animation
        return int.from_bytes(start[24:27], "little") + 1, int.from_bytes(start[27:30], "little") + 1
    return None


def _jpeg_size(read: Callable[[int, int], bytes]) -> tuple[int, int] | None:
    """The size in a JPEG's frame, its sides changed where the EXIF segment before it says so.

    Args:
        read: gives so many bytes from a place on, fewer at the end of the file.
    """
    at, turned = 2, False
    while True:
        head = read(at, 4)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker, length = head[1], int.from_bytes(head[2:4], "big")
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAMES:
            data = read(at + 4, 5)
            height, width = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
            sides = (height, width) if turned else (width, height)
            return sides if len(data) == 5 and min(sides) > 0 else None
        elif marker in (0xD9, 0xDA):  # the end, or pixels without a frame
            return None
        else:
            if marker == 0xE1:
                turned = turned or _exif_orientation(read(at + 4, length - 2)) in _TURNED
            at += 2 + length


def _exif_orientation(segment: bytes) -> int:
    """The orientation that an APP1 segment states, 1 where it states none."""
    return _tiff_orientation(segment[6:]) if segment[:6] == b"Exif\0\0" else 1


def _tiff_orientation(exif: bytes) -> int:
    """The orientation that EXIF's own structure states, 1 where it states none."""
    order = {b"II": "little", b"MM": "big"}.get(exif[:2])
    if order is None:
        return 1

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    first = number(4, 4)
    for place in range(number(first, 2)):
        at = first + 2 + 12 * place
        if number(at, 2) == _ORIENTATION:
            return number(at + 8, 2)
        if at >= len(exif):
            break
    return 1
