"""Videos and camera frames for tests of the board's program, made here from NumPy pictures `[H, W, 3]` RGB uint8."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def pictures(count: int, height: int = 48, width: int = 64, seed: int = 5) -> list[np.ndarray]:
    """Smooth ones, so that chroma shared by two pixels is that of both."""
    random = np.random.default_rng(seed)
    small = random.integers(30, 226, (count, 4, 5, 3), np.uint8)
    return [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in small]


def yuv(image: np.ndarray, full: bool = False, bt709: bool = False) -> np.ndarray:
    """`[H, W, 3]` float Y, U, V of ITU-R BT.601 or BT.709, limited or full range: from the standards' own formula."""
    kr, kb = (0.2126, 0.0722) if bt709 else (0.299, 0.114)
    red, green, blue = np.moveaxis(image.astype(np.float64), -1, 0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    if full:
        return np.stack([luma, u + 128, v + 128], -1)
    return np.stack([luma * 219 / 255 + 16, u * 224 / 255 + 128, v * 224 / 255 + 128], -1)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _halved(plane: np.ndarray, rows: bool) -> np.ndarray:
    """The mean of two columns, and of two rows; the last ones stand alone where their number is odd."""
    plane = np.pad(plane, ((0, plane.shape[0] % 2 if rows else 0), (0, plane.shape[1] % 2)), "edge")
    plane = (plane[:, ::2] + plane[:, 1::2]) / 2
    return (plane[::2] + plane[1::2]) / 2 if rows else plane


def frame(image: np.ndarray, kind: str, stride: int = 0, **colours: bool) -> bytes:
    """A frame as a camera gives it; `stride`: bytes of a line of the first plane."""
    if kind == "mjpeg":
        return jpeg(image)
    if kind in ("rgb24", "bgr24"):
        lines = image if kind == "rgb24" else image[..., ::-1]
        return _lines(lines.reshape(len(image), -1), stride)
    y, u, v = np.moveaxis(yuv(image, **colours), -1, 0)
    if kind in ("yuyv", "uyvy"):
        u, v = _halved(u, False), _halved(v, False)
        y = np.pad(y, ((0, 0), (0, y.shape[1] % 2)), "edge")
        packed = np.stack([y[:, ::2], u, y[:, 1::2], v], -1)
        packed = packed if kind == "yuyv" else packed[..., [1, 0, 3, 2]]
        return _lines(_rounded(packed).reshape(len(image), -1), stride)
    u, v = _halved(u, True), _halved(v, True)
    first = _lines(_rounded(y), stride)
    if kind == "i420":
        return first + b"".join(_lines(_rounded(plane), stride // 2) for plane in (u, v))
    pairs = np.stack([u, v] if kind == "nv12" else [v, u], -1)
    return first + _lines(_rounded(pairs).reshape(len(u), -1), stride)


def _lines(lines: np.ndarray, stride: int) -> bytes:
    return np.pad(lines, ((0, 0), (0, max(stride - lines.shape[1], 0)))).astype(np.uint8).tobytes()


def jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """A JPEG."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def without_tables(data: bytes) -> bytes:
    """A JPEG without its Huffman tables (marker 0xFFC4), as many cameras send it."""
    place, kept = 2, [data[:2]]
    while data[place + 1] != 0xDA:
        size = 2 + struct.unpack_from(">H", data, place + 2)[0]
        if data[place + 1] != 0xC4:
            kept.append(data[place : place + size])
        place += size
    return b"".join([*kept, data[place:]])


def y4m(
    path: Path, images: Sequence[np.ndarray], head: str = "F30000:1001 C420jpeg", **colours: bool
) -> Path:
    """A YUV4MPEG2 file of 4:2:0."""
    height, width = images[0].shape[:2]
    parts = [f"YUV4MPEG2 W{width} H{height} {head}\n".encode()]
    for image in images:
        parts += [b"FRAME\n", frame(image, "i420", **colours)]
    path.write_bytes(b"".join(parts))
    return path


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a RIFF file, of an even number of bytes."""
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def avi(frames: Sequence[bytes], codec: bytes, width: int, height: int, sound: bool = False) -> bytes:
    """An AVI; with `sound` a stream of it before the video, and its chunks between the frames."""
    number = 1 if sound else 0
    streams = (
        chunk(b"LIST", b"strl" + chunk(b"strh", b"auds" + bytes(52)) + chunk(b"strf", bytes(18)))
        if sound
        else b""
    )
    head = b"vids" + codec + struct.pack("<5I", 0, 0, 0, 2, 25) + bytes(28)
    form = struct.pack("<IiiHH", 40, width, height, 1, 24) + codec + bytes(20)
    streams += chunk(b"LIST", b"strl" + chunk(b"strh", head) + chunk(b"strf", form))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + streams)
    data = b"".join(
        (chunk(b"00wb", b"\1" * 7) if sound else b"") + chunk(b"%02ddc" % number, one) for one in frames
    )
    return chunk(b"RIFF", b"AVI " + header + chunk(b"JUNK", b"x" * 9) + chunk(b"LIST", b"movi" + data))


def camera_frames(path: Path, frames: Sequence[bytes]) -> Path:
    """What `device_stub` plays: of each frame its size and its data."""
    path.write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in frames))
    return path
