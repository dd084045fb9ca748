"""The board's program with cameras and a screen, with sanitizers.

Both are a test double of their ioctl (`device_stub/`): no device was at hand, nor v4l2loopback.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.packaging import videos
from tests.packaging.board import write_ppm
from tests.packaging.live import checks


def camera(live, images, kind, code, **settings):
    """Settings of the camera: it gives these pictures."""
    stride = int(settings.pop("CAMERA_STRIDE", 0))
    full = settings.get("CAMERA_FULL") == "1"
    frames = [videos.frame(image, kind, stride, **({"full": full} if full else {})) for image in images]
    path = videos.camera_frames(live.folder / "camera.bin", frames)
    height, width = images[0].shape[:2]
    values = {"CAMERA_FORMATS": code, "CAMERA_SIZE": f"{width}x{height}", "CAMERA_FRAMES": str(path)}
    return {**values, **({"CAMERA_STRIDE": str(stride)} if stride else {}), **settings}


@pytest.mark.parametrize(
    "kind, code", [("yuyv", "YUYV"), ("uyvy", "UYVY"), ("nv12", "NV12"), ("i420", "YU12")]
)
@pytest.mark.parametrize("planar", ["0", "1"])
def test_camera_s_formats(live, kind, code, planar):
    image = checks()
    for extra in ({}, {"CAMERA_STRIDE": "160" if kind in ("yuyv", "uyvy") else "80"}, {"CAMERA_FULL": "1"}):
        given = camera(live, [image], kind, code, CAMERA_PLANAR=planar, **extra)
        found = live.shown("/dev/video0", size=(48, 64), **given)
        assert np.abs(found.astype(int) - image).max() <= 2, extra


def test_camera_of_motion_jpeg(live, jpeg):
    image = videos.pictures(1)[0]
    found = live.shown("/dev/video0", size=(48, 64), **camera(live, [image], "mjpeg", "MJPG"))
    assert np.abs(found.astype(int) - image).max() <= 12
    # What comes as it is, is preferred; mjpeg where it is asked for.
    both = camera(live, [image], "mjpeg", "MJPG,YUYV")
    found = live.shown("/dev/video0", "--video-format", "mjpeg", size=(48, 64), **both)
    assert np.abs(found.astype(int) - image).max() <= 12
    yuyv = camera(live, [checks()], "yuyv", "MJPG,YUYV")
    assert np.abs(live.shown("/dev/video0", size=(48, 64), **yuyv).astype(int) - checks()).max() <= 2


def test_camera_goes_on_with_the_newest_frame_until_it_is_unplugged(live):
    images = [np.full((48, 64, 3), 30 * number, np.uint8) for number in range(1, 7)]
    given = camera(live, images, "nv12", "NV12", CAMERA_BURST="2")
    rows, said = live.live("/dev/video0", "--draw", live.folder / "drawn", code=2, **given)
    assert [row["frame"] for row in rows[:-1]] == [0, 1, 2]
    assert "/dev/video0 gives no more frames: No such device" in said
    assert rows[-1]["summary"]["frames"] == 3
    names = sorted((live.folder / "drawn").iterdir())
    shades = [cv2.imread(str(path))[44, 60].mean() for path in names]  # below the rate and the box
    assert shades == pytest.approx([60, 120, 180], abs=3)  # of two that wait the newer one
    assert names[0].stem == "video0_000000"


def test_cameras_that_cannot_be_used_are_one_line(live):
    given = camera(live, [checks()], "yuyv", "YUYV")
    for wrong, message in (
        ("here", "/dev/video0 cannot be opened: No such file or directory"),
        ("mine", "cannot be opened: Permission denied; the user must be in the group video"),
        ("v4l2", "/dev/video0 is no Video4Linux2 device"),
        ("camera", "/dev/video0 takes no pictures: a camera often has several devices"),
        ("streaming", "/dev/video0 does not stream into memory"),
        ("frames", "/dev/video0 gave no frame for 5 seconds"),
    ):
        assert message in live.refused("/dev/video0", CAMERA_NOT=wrong, **given)
    h264 = {**given, "CAMERA_FORMATS": "H264,pRAA"}
    assert "gives H264, pRAA, which this program does not read" in live.refused("/dev/video0", **h264)
    assert "gives YUYV, and no nv12" in live.refused("/dev/video0", "--video-format", "nv12", **given)
    assert "0x48 is no frame's size" in live.refused("/dev/video0", **{**given, "CAMERA_SIZE": "0x48"})
    short = {**given, "CAMERA_STRIDE": "100"}
    assert "30 damaged frames in a row" in live.refused(
        "/dev/video0", **{**short, **many(live, videos.frame(checks(), "yuyv"), 40)}
    )
    said = live.refused("/dev/video0", **{**given, "CAMERA_DAMAGED": "1", **many(live, b"1", 40)})
    assert "30 damaged frames in a row: the driver says that the frame is damaged" in said


def many(live, data, count):
    return {"CAMERA_FRAMES": str(videos.camera_frames(live.folder / "many.bin", [data] * count))}


def test_camera_s_first_frames_may_be_cut(live):
    image = checks()
    good = videos.frame(image, "yuyv")
    given = camera(live, [image], "yuyv", "YUYV")
    given["CAMERA_FRAMES"] = str(videos.camera_frames(live.folder / "cut.bin", [b"", good[:100], good]))
    assert np.abs(live.shown("/dev/video0", size=(48, 64), **given).astype(int) - image).max() <= 2


def test_screen_of_16_bits_and_of_another_order(live):
    image = checks(24, 32)
    path = write_ppm(live.folder / "image.ppm", image)
    live.found([])
    memory = live.folder / "screen.bin"
    # RGB565 of 70x30, lines of 160 bytes, the second of two screens: the image twice... as large as fits, centred.
    memory.write_bytes(b"\x55" * 160 * 60)
    about = {"SCREEN": "70x30x16", "SCREEN_LINE": "160", "SCREEN_SHIFTS": "11,5,0", "SCREEN_OFFSET": "30"}
    live.live(path, "--draw", "/dev/fb0", SCREEN_MEMORY=str(memory), **about)
    lines = np.frombuffer(memory.read_bytes(), "<u2").reshape(60, 80)
    assert (lines[:30] == 0x5555).all() and (lines[30:, 70:] == 0x5555).all()  # beyond the screen
    shown = lines[30:, :70]
    assert (shown[:, :15] == 0).all() and (shown[:, 55:] == 0).all()  # 32x24 becomes 40x30
    rows, columns = np.arange(30) * 24 // 30, np.arange(40) * 32 // 40
    red, green, blue = np.moveaxis(image[rows][:, columns].astype(int), -1, 0)
    assert (shown[:, 15:55] == (red >> 3 << 11 | green >> 2 << 5 | blue >> 3)).all()
    # RGBA in place of BGRA.
    memory.write_bytes(bytes(4 * 32 * 24))
    about = {"SCREEN": "32x24x32", "SCREEN_SHIFTS": "0,8,16", "SCREEN_MEMORY": str(memory)}
    live.live(path, "--draw", "/dev/fb0", **about)
    assert (np.frombuffer(memory.read_bytes(), np.uint8).reshape(24, 32, 4)[..., :3] == image).all()


def test_screens_that_cannot_be_used_are_one_line(live):
    path = write_ppm(live.folder / "image.ppm", checks())
    memory = live.folder / "screen.bin"
    memory.write_bytes(bytes(64 * 48 * 4))
    for about, message in (
        ({"SCREEN": "64x48x24", "SCREEN_SHIFTS": "16,8,0"}, "has 24 bits a pixel"),
        ({"SCREEN": "64x48x32", "SCREEN_SHIFTS": "16,8,30"}, "has 32 bits a pixel; screens of 16 and 32"),
        ({"SCREEN": "64x49x32", "SCREEN_SHIFTS": "16,8,0"}, "larger than its memory"),
        ({"SCREEN": "64x48x32", "SCREEN_SHIFTS": "16,8,0", "SCREEN_LINE": "200"}, "larger than its memory"),
        ({"SCREEN": "0x48x32", "SCREEN_SHIFTS": "16,8,0"}, "larger than its memory"),
        ({"SCREEN": ""}, "/dev/fb0 is no framebuffer"),
    ):
        said = live.refused(path, "--draw", "/dev/fb0", SCREEN_MEMORY=str(memory), **about)
        assert message in said
    assert "/dev/fb0 cannot be opened" in live.refused(path, "--draw", "/dev/fb0")
