"""Read one image file as RGB, noticing files that are cut short."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from picoquant.errors import DataError

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
        raise UnreadableImageError(f"image {path} {reason}; replace the file or take it out of the data set")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
