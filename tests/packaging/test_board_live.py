"""The board's program live, with sanitizers: folders, videos, drawn frames, and files that are damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from picoquant.prediction.draw import colour
from tests.packaging import videos
from tests.packaging.board import write_ppm
from tests.packaging.live import checks, interrupt

RAW = ("yuyv", "uyvy", "nv12", "nv21", "i420", "rgb24", "bgr24")


@pytest.mark.parametrize("kind", RAW)
def test_raw_frames_become_rgb(live, kind):
    for size in ((48, 64), (47, 63)):
        image = checks(*size)
        path = live.folder / "frames.raw"
        path.write_bytes(videos.frame(image, kind))
        options = ("--video-format", kind, "--video-size", f"{size[1]}x{size[0]}")
        found = live.shown(path, *options, size=size)
        assert np.abs(found.astype(int) - image).max() <= (0 if "24" in kind else 2)


def test_yuyv_and_nv12_are_opencv_s_to_one_level(live):
    random = np.random.default_rng(2)
    size, path = (48, 64), live.folder / "frame.raw"
    for kind, shape, code in (
        ("yuyv", (48, 64, 2), cv2.COLOR_YUV2RGB_YUYV),
        ("nv12", (72, 64), cv2.COLOR_YUV2RGB_NV12),
    ):
        data = random.integers(16, 236, shape, np.uint8)  # OpenCV takes what is blacker than black as black
        path.write_bytes(data.tobytes())
        found = live.shown(path, "--video-format", kind, "--video-size", "64x48", size=size)
        assert np.abs(found.astype(int) - cv2.cvtColor(data, code)).max() <= 1


@pytest.mark.parametrize("full", [False, True])
def test_y4m_in_both_ranges_from_a_file_and_from_a_pipe(live, full):
    image = checks()
    head = f"F25:1 C420mpeg2 XCOLORRANGE={'FULL' if full else 'LIMITED'}"
    path = videos.y4m(live.folder / "video.y4m", [image, image], head, full=full)
    assert np.abs(live.shown(path, size=(48, 64)).astype(int) - image).max() <= 2
    rows, said = live.live("-", data=path.read_bytes())
    assert [row.get("frame") for row in rows] == [0, 1, None]
    assert rows[0]["source"] == "standard input" and "detect: 2 frames, 0 detections, " in said


def test_a_video_prints_a_line_a_frame_and_the_frame_rate(live):
    path = videos.y4m(live.folder / "video.y4m", videos.pictures(5))
    rows, said = live.live(path)
    assert [row["frame"] for row in rows[:-1]] == [0, 1, 2, 3, 4]
    assert rows[3] | {"frame": 0} == rows[0]
    assert rows[0]["detections"] == [
        {"class": 0, "label": "red cell", "score": 0.9, "box": [10.0, 20.0, 40.0, 40.0]}
    ]
    assert (rows[0]["source"], rows[0]["width"], rows[0]["height"]) == (str(path), 64, 48)
    summary = rows[-1]["summary"]
    assert (summary["frames"], summary["detections"], summary["failed"]) == (5, 5, 0)
    assert abs(5 / summary["frames_per_second"] - summary["seconds"]) < 0.0011  # seconds have three digits
    assert summary["first_run"] >= 0  # an NPU's driver compiles in it, so it is not in the frame rate
    parts = summary["milliseconds"]
    assert list(parts) == ["read", "preprocess", "network", "decode", "draw"] and min(parts.values()) >= 0
    assert 5 * sum(parts.values()) <= 1000 * summary["seconds"] + 1
    rows, _ = live.live(path, "--frames", 2, "--min-score", 0.1)
    assert rows[-1]["summary"]["frames"] == 2 and len(rows[0]["detections"]) == 2
    live.found([])
    assert live.live(path, "--frames", 1)[0][0]["detections"] == []


def test_drawn_frames_as_images_y4m_and_avi(live, jpeg):
    images = videos.pictures(3)
    path = videos.y4m(live.folder / "clip.y4m", images)
    live.live(path, "--draw", live.folder / "drawn")
    names = sorted(one.name for one in (live.folder / "drawn").iterdir())
    assert names == ["clip_000000.jpg", "clip_000001.jpg", "clip_000002.jpg"]
    one = cv2.imread(str(live.folder / "drawn" / names[0]))[..., ::-1]
    assert one.shape == (48, 64, 3)
    assert np.abs(one[42:, 50:].astype(int) - images[0][42:, 50:]).mean() < 4  # where nothing is drawn
    for name in ("out.y4m", "out.avi"):
        live.live(path, "--draw", live.folder / name)
        assert not (live.folder / f"{name}.part").exists()
        capture = cv2.VideoCapture(str(live.folder / name))
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(29.97, abs=0.01)
        frames = [capture.read()[1] for _ in range(3)]
        assert not capture.read()[0], name
        for found, image in zip(frames, images):
            assert np.abs(found[42:, 50:, ::-1].astype(int) - image[42:, 50:]).mean() < 4
        # What is written is read again.
        rows, _ = live.live(live.folder / name)
        assert rows[-1]["summary"]["frames"] == 3


def test_box_label_and_score_are_where_they_belong(live):
    image = np.full((120, 160, 3), 40, np.uint8)
    path = write_ppm(live.folder / "grey.ppm", image)
    live.found([[2, 0.87, 20, 40, 90.4, 99.6], [0, 0.95, -50, -1e30, float("nan"), 1e30]])
    rows, _ = live.live(path, "--draw", live.folder / "out.ppm")
    assert rows[0]["detections"][0]["box"][2] is None  # JSON has no word for it
    drawn = cv2.imread(str(live.folder / "out.ppm"))[..., ::-1]
    # Box 20, 40, 90, 100 in the colour that `predict` has for the class, one pixel thick.
    for place in ((40, 50), (100, 50), (60, 20), (60, 90)):
        assert np.abs(drawn[place].astype(int) - colour(2)).max() <= 1, place
    assert (drawn[60, 30] == 40).all() and (drawn[101, 50] == 40).all()
    # "Zähler" is beyond ASCII, so "2 0.87": six letters of 5x7 dots, on a ground of 37x9 that ends at the box.
    assert np.abs(drawn[31, 20].astype(int) - colour(2)).max() <= 1 and (drawn[30, 20] == 40).all()
    assert (drawn[35, 58] == 40).all()
    ink = (drawn[32:39, 21:26] == drawn[32, 22]).all(-1)
    two = [".###.", "#...#", "....#", "..##.", ".#...", "#....", "#####"]
    assert ["".join(".#"[int(dot)] for dot in row) for row in ink] == two
    # The box that is no box is at the image's edges.
    assert np.abs(drawn[119, 0].astype(int) - colour(0)).max() <= 1


def test_one_image_is_drawn_into_one_file(live, jpeg):
    path = write_ppm(live.folder / "image.ppm", np.full((48, 64, 3), 90, np.uint8))
    live.run("--image", path, "--outputs", live.outputs, "--draw", live.folder / "one.jpg")
    assert cv2.imread(str(live.folder / "one.jpg")).shape == (48, 64, 3)
    video = videos.y4m(live.folder / "video.y4m", videos.pictures(2))
    _, said = live.live(video, "--draw", live.folder / "two.jpg", code=2)
    assert "two.jpg holds one image, and there are more: name a folder or a video" in said


def test_folder_of_images_a_damaged_one_among_them(live, jpeg):
    folder = live.folder / "images"
    folder.mkdir()
    first, second = videos.pictures(2)
    write_ppm(folder / "b.ppm", first)
    (folder / "a.JPG").write_bytes(videos.jpeg(second))
    (folder / "b.jpg").write_bytes(videos.jpeg(second)[:-40])
    (folder / "notes.txt").write_text("no image")
    rows, said = live.live(folder, "--draw", live.folder / "drawn", code=2)
    assert [Path(row["source"]).name for row in rows[:-1]] == ["a.JPG", "b.jpg", "b.ppm"]
    assert "error" in rows[1] and "b.jpg: a damaged JPEG: " in said and "detections" not in rows[1]
    summary = rows[-1]["summary"]
    assert (summary["frames"], summary["detections"], summary["failed"]) == (2, 2, 1)
    assert sorted(one.name for one in (live.folder / "drawn").iterdir()) == ["a.jpg", "b_2.jpg"]
    empty = live.folder / "empty"
    empty.mkdir()
    assert "empty holds no image that this program reads (.ppm, .jpg, .jpeg)" in live.refused(empty)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_exif_says(live, jpeg, orientation):
    from PIL import Image, ImageOps

    image = Image.fromarray(videos.pictures(1, 32, 48)[0])
    exif = image.getexif()
    exif[0x0112] = orientation
    path = live.folder / "photo.jpg"
    image.save(path, quality=95, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    found = live.shown(path, size=expected.shape[:2])
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_avi_of_motion_jpeg_and_of_raw_frames(live, jpeg):
    images = videos.pictures(3)
    path = live.folder / "video.avi"
    frames = [videos.jpeg(image) for image in images]
    expected = cv2.imdecode(np.frombuffer(frames[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    for data in (frames, [videos.without_tables(one) for one in frames]):
        path.write_bytes(videos.avi(data, b"MJPG", 64, 48, sound=True))
        assert np.abs(live.shown(path, size=(48, 64)).astype(int) - expected).max() <= 2
        assert live.live(path)[0][-1]["summary"]["frames"] == 3
    path.write_bytes(videos.avi([frames[0], b"", frames[1]], b"MJPG", 64, 48))
    assert live.live(path)[0][-1]["summary"]["frames"] == 2  # a dropped frame is none
    path.write_bytes(videos.avi([videos.frame(checks(), "yuyv")], b"YUY2", 64, 48))
    assert np.abs(live.shown(path, size=(48, 64)).astype(int) - checks()).max() <= 2
    path.write_bytes(videos.avi(frames, b"H264", 64, 48))
    assert "the AVI's codec H264 is not read; make it Motion JPEG, or pipe it in: ffmpeg" in live.refused(
        path
    )
    path.write_bytes(videos.avi([frames[0], frames[1][:200], frames[2]], b"MJPG", 64, 48))
    rows, said = live.live(path, code=2)  # one damaged, the others are there
    assert ["error" in row for row in rows] == [False, True, False, False]
    assert f"{path}: frame 1: " in said


def test_videos_that_end_too_early_say_so(live, jpeg):
    images = videos.pictures(3)
    whole = {
        "video.y4m": videos.y4m(live.folder / "whole.y4m", images).read_bytes(),
        "video.avi": videos.avi([videos.jpeg(one) for one in images], b"MJPG", 64, 48),
    }
    for name, data in whole.items():
        path = live.folder / name
        path.write_bytes(data[:-100])
        rows, said = live.live(path, code=2)
        assert ["error" in row for row in rows] == [False, False, True, False]
        assert f"{path}: frame 2: the file ends within it" in said
    # Cut between two frames: only the AVI's own size tells.
    path = live.folder / "video.avi"
    path.write_bytes(whole["video.avi"][: whole["video.avi"].rindex(b"00dc")])
    rows, said = live.live(path, code=2)
    assert rows[-1]["summary"]["frames"] == 2 and "the file ends before its time: it was cut off" in said


def bad_files():
    images = videos.pictures(1)
    frame = videos.frame(images[0], "i420")
    good = videos.avi([videos.jpeg(images[0])], b"MJPG", 64, 48)
    no_video = videos.chunk(b"RIFF", b"AVI " + videos.chunk(b"LIST", b"movi" + videos.chunk(b"00dc", b"12")))
    return {
        "empty.y4m": (b"", "is no image and no video that is read without a codec"),
        "text.avi": (b"hello, this is no video", "is no image and no video"),
        "no_size.y4m": (b"YUV4MPEG2 F25:1\nFRAME\n" + frame, "0x0 is no frame's size"),
        "zero.y4m": (b"YUV4MPEG2 W64 H0\nFRAME\n", "64x0 is no frame's size"),
        "negative.y4m": (b"YUV4MPEG2 W-64 H48\nFRAME\n", "-64x48 is no frame's size"),
        "huge.y4m": (b"YUV4MPEG2 W99999999999999999999 H48\nFRAME\n", "is no frame's size"),
        "large.y4m": (b"YUV4MPEG2 W65536 H65536\nFRAME\n", "65536x65536 is no frame's size"),
        "deep.y4m": (b"YUV4MPEG2 W64 H48 C420p10\nFRAME\n", "Y4M with C420p10 is not read"),
        "no_video.avi": (no_video, "holds no video before its data"),
        "no_frames.avi": (good[: good.index(b"movi") - 8], "holds no frames"),
        "zero.avi": (videos.avi([b"1"], b"YUY2", 0, 48), "0x48 is no frame's size"),
        "upside.avi": (videos.avi([b"1"], b"YUY2", 64, -48), "64x-48 is no frame's size"),
        "codec.avi": (videos.avi([b"1"], b"\0\n\xff ", 64, 48), "codec ???? is not read"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_bad_files_are_one_line(live, name, jpeg):
    data, message = bad_files()[name]
    path = live.folder / name
    path.write_bytes(data)
    assert message in live.refused(path)


def test_frames_that_are_not_there_are_named(live):
    path = live.folder / "video.y4m"
    for data, message in (
        (b"YUV4MPEG2 W64 H48\n", "frame 0: it is missing: the file holds none"),
        (b"YUV4MPEG2 W64 H48\nFRAMES\n", "frame 0: its line FRAME is missing"),
        (b"YUV4MPEG2 W4096 H4096\nFRAME\nfew", "frame 0: the file ends within it"),
    ):
        path.write_bytes(data)
        rows, said = live.live(path, code=2)
        assert (
            message in said
            and rows[0]["error"].endswith(message[len("frame 0: ") :])
            or message in rows[0]["error"]
        )
        assert rows[-1]["summary"]["failed"] == 1 and rows[-1]["summary"]["frames"] == 0
    path = live.folder / "video.avi"
    path.write_bytes(videos.avi([bytes(100)], b"YUY2", 64, 48))
    assert "frame 0: a frame of 100 bytes, 6144 expected" in live.live(path, code=2)[1]


def test_no_damaged_video_upsets_the_program(live, jpeg):
    """Every 7th length of a file, and bytes changed at random: exit code 0 or 2, never a sanitizer's 99."""
    images = videos.pictures(2, 16, 24)
    random = np.random.default_rng(4)
    files = [
        videos.y4m(live.folder / "whole.y4m", images).read_bytes(),
        videos.avi([videos.jpeg(one, 60) for one in images], b"MJPG", 24, 16, sound=True),
    ]
    hostile = [data[:length] for data in files for length in range(0, len(data), len(data) // 7)]
    for _ in range(24):
        data = bytearray(files[1])
        for place in random.integers(0, len(data), 6):
            data[place] = random.integers(0, 256)
        hostile.append(bytes(data))
    # Sizes at their limits.
    for place in (4, 16, 24, files[1].index(b"strf", 200) + 8, files[1].index(b"01dc") + 4):
        for size in (0, 0x7FFFFFFF, 0xFFFFFFFF):
            hostile.append(files[1][:place] + struct.pack("<I", size) + files[1][place + 4 :])
    path = live.folder / "hostile.bin"
    codes = set()
    for data in hostile:
        path.write_bytes(data)
        process = live.start(path, "--draw", live.folder / "out.avi")
        _, said = process.communicate(timeout=60)
        codes.add(process.returncode)
        assert process.returncode in (0, 2), said.decode()
        assert b"Sanitizer" not in said and b"runtime error" not in said, said.decode()
    assert codes == {0, 2}


def test_ctrl_c_ends_with_a_whole_video_and_the_summary(live):
    path = videos.y4m(live.folder / "video.y4m", videos.pictures(2))
    out = live.folder / "out.y4m"
    process = live.start("-", "--draw", out)
    process.stdin.write(path.read_bytes())
    process.stdin.flush()
    first = process.stdout.readline()  # the loop is running
    said = interrupt(process)  # and waits for more: the end of the pipe lets it go on
    assert b'"frame": 0' in first and process.returncode == 0, said
    assert '"summary"' in said[0] and out.is_file() and not (live.folder / "out.y4m.part").exists()


def test_a_reader_that_leaves_ends_it_with_a_whole_video(live):
    path = videos.y4m(live.folder / "video.y4m", videos.pictures(60))
    process = live.start(path, "--draw", live.folder / "out.y4m")
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait(60) == 2 and "standard output cannot be written" in said
    assert (live.folder / "out.y4m").is_file() and not (live.folder / "out.y4m.part").exists()


def test_wrong_options_are_one_line(live):
    path = videos.y4m(live.folder / "video.y4m", videos.pictures(1))
    raw = live.folder / "frames.raw"
    raw.write_bytes(bytes(6144))
    for options, message in (
        (["--expected", "e.json"], "--source is for every frame, e.json for one --image"),
        (["--video-size", "64"], "--video-size: 64 is no size like 640x480"),
        (["--video-size", "0x48"], "--video-size: 0x48 is no frame's size"),
        (["--video-format", "yv12"], "--video-format: yv12 is none of yuyv, uyvy, nv12"),
        (["--power", "max"], "--power: max is none of high, low, full, none"),
        (["--frames", "0"], "--frames: 0 is no number from 1"),
        (["--draw", live.folder / "out.mp4"], "written are a folder of images, FILE.ppm"),
        (["--draw", live.folder / "no" / "folder"], "no/folder cannot be made: No such file"),
        (["--draw", live.folder / "no" / "out.y4m"], "cannot be written: No such file"),
    ):
        assert message in live.refused(path, *options), options
    assert "--video-format yuyv of a file needs --video-size" in live.refused(raw, "--video-format", "yuyv")
    assert "no such file, folder or device" in live.refused(live.folder / "not.y4m")
    said = live.run("--image", path, "--outputs", live.outputs, "--frames", "2", code=2)
    assert "--frames, --video-size and --video-format need --source" in said
