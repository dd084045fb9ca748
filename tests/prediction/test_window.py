"""`picoquant predict --show`: a window where there is a display, one line where there is none."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from picoquant.prediction.window import Window, no_display, window_for
from tests.command_line import picoquant

FILL = (200, 40, 90)  # red, green, blue: found again on the screen


LINE = "predict: no window: there is no display (DISPLAY and WAYLAND_DISPLAY are not set); going on without"


def test_without_a_display_a_camera_says_so_and_all_else_goes_on(run_made, tmp_path):
    done = picoquant(
        "predict", run_made / "images/blocks_1.png", 97, "--save-dir", run_made, "--out", tmp_path / "out",
        "--no-images", DISPLAY="", WAYLAND_DISPLAY="",
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count(LINE) == 1
    assert "camera 97 gives no image" in done.stderr and "1 images" in done.stdout


@pytest.mark.parametrize(
    "camera, asked, said",
    [
        (True, None, True),
        (False, None, False),
        (False, True, True),
        (True, False, False),
        (False, False, False),
    ],
)
def test_who_gets_a_window(monkeypatch, caplog, camera, asked, said):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with window_for(camera, asked) as window:
        assert window is None
    assert [record.getMessage() for record in caplog.records] == [LINE] * said


def test_a_display_that_does_not_answer_ends_no_more_than_the_window(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":4097")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert no_display().startswith("OpenCV opens none here: ")


def screen(folder):
    """The virtual display's picture `[H, W, 3]` RGB, from its memory (X window dump: big-endian words, then lines)."""
    data = (folder / "Xvfb_screen0").read_bytes()
    words = struct.unpack_from(">25I", data)
    head, width, height, line, colours = words[0], words[4], words[5], words[12], words[19]
    place = head + 12 * colours
    lines = np.frombuffer(data, np.uint8, line * height, place).reshape(height, line)
    return lines[:, : 4 * width].reshape(height, width, 4)[..., 2::-1]


@pytest.mark.slow
def test_a_window_on_a_virtual_display(run_made, tmp_path):
    if not shutil.which("Xvfb"):
        pytest.skip("Xvfb is not installed: apt-get install xvfb")
    display = f":{10000 + os.getpid() % 50000}"
    server = subprocess.Popen(["Xvfb", display, "-screen", "0", "800x600x24", "-fbdir", str(tmp_path)])
    picture = np.full((48, 64, 3), FILL, np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), picture[..., ::-1])
    command = [sys.executable, "-m", "picoquant", "predict", tmp_path / "picture.png", "--show", "--model"]
    command += [run_made / "export", "--out", tmp_path / "out", "--threshold", "1"]
    shown = None
    try:
        time.sleep(2)
        shown = subprocess.Popen([str(part) for part in command], env={**os.environ, "DISPLAY": display})
        deadline = time.monotonic() + 90
        while (screen(tmp_path) == FILL).all(-1).sum() < 48 * 64 and time.monotonic() < deadline:
            assert shown.poll() is None, "it ended before the window was seen"
            time.sleep(0.5)
        assert (screen(tmp_path) == FILL).all(-1).sum() >= 48 * 64
        assert shown.poll() is None  # a picture stays until a key is pressed
    finally:
        for process in (shown, server):
            if process is not None:
                process.terminate()
                process.wait(30)


class Keys:
    """OpenCV's window, as far as `Window` uses it: these keys are pressed, -1 is none."""

    COLOR_RGB2BGR = WINDOW_NORMAL = WINDOW_KEEPRATIO = WND_PROP_VISIBLE = 0

    def __init__(self, keys, visible=1):
        self.keys, self.visible, self.waits = list(keys), visible, []

    def waitKey(self, milliseconds):  # noqa: N802  OpenCV's name
        self.waits.append(milliseconds)
        return self.keys.pop(0)

    def getWindowProperty(self, *_):  # noqa: N802
        return self.visible

    def cvtColor(self, image, _):  # noqa: N802
        return image

    def namedWindow(self, *_):  # noqa: N802
        pass

    imshow = setWindowTitle = namedWindow  # noqa: N815


@pytest.mark.parametrize(
    "keys, visible, stays, goes_on, waits",
    [
        ([-1], 1, False, True, 1),  # a frame of a video
        ([ord("x")], 1, False, True, 1),
        ([ord("q")], 1, False, False, 1),
        ([27], 1, True, False, 1),
        ([-1, -1, ord(" ")], 1, True, True, 3),  # a picture, until a key
        ([-1], 0, True, False, 1),  # closed by the mouse
    ],
)
def test_keys(monkeypatch, keys, visible, stays, goes_on, waits):
    pressed = Keys(keys, visible)
    monkeypatch.setitem(sys.modules, "cv2", pressed)
    window = Window()
    assert window.show(np.zeros((4, 4, 3), np.uint8), "camera 0", stays) == goes_on
    assert len(pressed.waits) == waits
