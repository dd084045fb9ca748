"""read_image: pixels, orientation, and files that are cut short."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from picoquant.data.images import UnreadableImageError, image_size, read_image

PIXELS = np.random.RandomState(0).randint(0, 256, (30, 50, 3), np.uint8)


def test_png_is_read_as_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)  # OpenCV takes BGR
    assert np.array_equal(read_image(tmp_path / "a.png"), PIXELS[:, :, ::-1])


def test_grey_image_becomes_three_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS[:, :, 0])
    image = read_image(tmp_path / "a.png")
    assert image.shape == (30, 50, 3)
    assert np.array_equal(image[:, :, 2], PIXELS[:, :, 0])


def _with_exif(jpeg: bytes, orientation: int, thumbnail: bytes = b"", order: str = ">") -> bytes:
    """Put an EXIF segment with this orientation, and a thumbnail behind it, into a JPEG."""
    entries = [(0x0100, 640), (0x0112, orientation)]
    tiff = {">": b"MM", "<": b"II"}[order] + struct.pack(order + "HIH", 42, 8, len(entries))
    tiff += b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    tiff += struct.pack(order + "I", 0)
    body = b"Exif\x00\x00" + tiff + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_exif_orientation_turns_the_image(tmp_path):
    jpeg = cv2.imencode(".jpg", PIXELS)[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(_with_exif(jpeg, 6))  # 6: turn clockwise by a quarter
    upright = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1), cv2.COLOR_BGR2RGB)
    assert np.array_equal(read_image(tmp_path / "a.jpg"), np.rot90(upright, -1))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.98])
def test_truncated_file_is_named(tmp_path, suffix, part):
    data = cv2.imencode(suffix, PIXELS)[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UnreadableImageError, match=f"cut{suffix} is truncated"):
        read_image(path)


def test_end_marker_of_a_thumbnail_is_not_taken_for_the_images(tmp_path):
    jpeg = cv2.imencode(".jpg", PIXELS)[1].tobytes()
    whole = _with_exif(jpeg, 1, thumbnail=jpeg)
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert read_image(path).shape == (30, 50, 3)
    path.write_bytes(whole[:-100])
    with pytest.raises(UnreadableImageError, match="truncated"):
        read_image(path)


def test_bytes_behind_the_end_do_no_harm(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(cv2.imencode(".jpg", PIXELS)[1].tobytes() + bytes(1000))
    assert read_image(path).shape == (30, 50, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"no image at all", "cannot be decoded"), (None, "No such file")],
)
def test_other_files_that_are_no_images(tmp_path, content, message):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=f"a.jpg.*{message}"):
        read_image(path)


@pytest.fixture(scope="module")
def picture():
    return np.random.RandomState(0).randint(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_picture_as_it_is_turned(tmp_path, picture, orientation, order):
    path = tmp_path / "a.jpg"
    path.write_bytes(_with_exif(cv2.imencode(".jpg", picture)[1].tobytes(), orientation, order=order))
    height, width = read_image(path).shape[:2]
    assert image_size(path) == (width, height) == ((60, 40) if orientation < 5 else (40, 60))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("place", ["before the pixels", "behind them"])
def test_sizes_of_a_png_that_is_turned(tmp_path, picture, orientation, place):
    plain = cv2.imencode(".png", picture)[1].tobytes()
    at = 33 if place == "before the pixels" else plain.index(b"IEND") - 4
    tag = (
        (0x0112).to_bytes(2, "big")
        + (3).to_bytes(2, "big")
        + (1).to_bytes(4, "big")
        + bytes([0, orientation, 0, 0])
    )
    body = b"eXIf" + b"MM\0*" + (8).to_bytes(4, "big") + (1).to_bytes(2, "big") + tag + bytes(4)
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    path = tmp_path / "a.png"
    path.write_bytes(plain[:at] + chunk + plain[at:])
    height, width = read_image(path).shape[:2]
    assert image_size(path) == (width, height)


@pytest.mark.parametrize("quality", [50, 101])  # above 100: lossless
@pytest.mark.parametrize("side", [1, 60, 300])
def test_sizes_of_webp(tmp_path, quality, side):
    path = tmp_path / "a.webp"
    image = np.random.RandomState(0).randint(0, 256, (40, side, 3), np.uint8)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert image_size(path) == (side, 40)
    path.write_bytes(path.read_bytes()[:22])
    assert image_size(path) is None


@pytest.mark.parametrize("kind", [".jpg", ".png", ".bmp"])
def test_sizes_from_headers(tmp_path, picture, kind):
    path = tmp_path / f"a{kind}"
    cv2.imwrite(str(path), picture)
    assert image_size(path) == (60, 40)


def test_sizes_behind_long_segments_and_in_progressive_files(tmp_path, picture):
    plain = cv2.imencode(".jpg", picture)[1].tobytes()
    profile = b"\xff\xe2" + (60002).to_bytes(2, "big") + bytes(60000)
    (tmp_path / "long.jpg").write_bytes(plain[:2] + profile + b"\xff" + profile + plain[2:])
    assert image_size(tmp_path / "long.jpg") == (60, 40)
    cv2.imwrite(str(tmp_path / "progressive.jpg"), picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert image_size(tmp_path / "progressive.jpg") == (60, 40)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xc0\0\x11",
        b"\xff\xd8\xff\xda\0\2",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"no image",
    ],
)
def test_sizes_of_what_is_no_image(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    assert image_size(tmp_path / "a.jpg") is None
    assert image_size(tmp_path / "none.jpg") is None
    assert image_size(tmp_path) is None


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("factor", "said"), [(16, True), (257, False)])
def test_16_bits_of_which_12_are_used_are_said(tmp_path, caplog, suffix, factor, said):
    path = tmp_path / f"a{suffix}"
    values = np.random.RandomState(0).randint(0, 256, (9, 8, 3)).astype(np.uint16)
    values[0, 0] = 255
    cv2.imwrite(str(path), values * factor)
    assert read_image(path).max() - 255 * factor // 256 in (0, 1)  # OpenCV rounds those of TIFF
    line = f"image {path} has 16 bits a channel, but no value above {255 * factor} of 65535: it is read as nearly black"
    assert (line in caplog.text) == said


def test_a_dark_image_of_8_bits_is_not_asked_about(tmp_path, caplog):
    for name in ("a.png", "a.tif"):
        cv2.imwrite(str(tmp_path / name), np.full((9, 8, 3), 7, np.uint8))
        assert read_image(tmp_path / name).max() == 7
    assert not caplog.text
