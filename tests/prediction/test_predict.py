"""`picoquant predict`: images, folders, videos; annotated images and JSON lines as they come."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from picoquant.data.images import read_image
from picoquant.errors import UserError
from picoquant.packaging.sample import expected_detections
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.prediction.sources import Unreadable, find, frames
from tests.command_line import picoquant, refusal


def test_a_folder_of_images_as_json_lines_and_annotated_images(run_made, tmp_path):
    images = run_made / "images"
    done = picoquant(
        "predict", images, "--model", run_made / "export", "--out", tmp_path / "out", "--threshold", 0.3, "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (tmp_path / "out/detections.jsonl").read_text() == done.stdout
    assert [row["source"] for row in rows] == [str(images / f"blocks_{n}.png") for n in range(1, 6)]
    model = ModelFolder.open(run_made / "export")
    for row in rows:
        expected = expected_detections(model, read_image(row["source"]))
        expected = [score for score in expected.scores.tolist() if score >= 0.3]
        assert [found["score"] for found in row["detections"]] == pytest.approx(expected, abs=1e-4)
        assert (row["width"], row["height"]) == (64, 48)
        assert read_image(row["annotated"]).shape == (48, 64, 3)
    assert sum(len(row["detections"]) for row in rows) > 5
    assert "5 images, " in done.stderr and "images/s (paddle_fp32)" in done.stderr


def test_a_video_in_another_runtime_frame_by_frame(run_made, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for level in (40, 120, 200, 240):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    done = picoquant(
        "predict", tmp_path / "clip.avi", "--save-dir", run_made, "--backend", "onnx", "--out", tmp_path / "out",
        "--frames", 3, "--no-images",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out/detections.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == [0, 1, 2] and "annotated" not in rows[0]
    assert "3 images" in done.stdout and "(onnx_int8)" in done.stdout
    assert not list((tmp_path / "out").glob("*.jpg"))


def test_frames_are_read_one_at_a_time_and_get_names_of_their_own(run_made, tmp_path):
    images = run_made / "images"
    (tmp_path / "blocks_1.png").write_bytes((images / "blocks_1.png").read_bytes())
    (tmp_path / "z.png").write_bytes(b"damaged")
    stream = frames(find([str(images / "blocks_1.png"), str(tmp_path)]))
    assert [next(stream).name for _ in range(2)] == ["blocks_1", "blocks_1_2"]
    damaged = next(stream)  # only now
    assert damaged == Unreadable(str(tmp_path / "z.png"), damaged.reason)
    assert "z.png cannot be decoded" in damaged.reason


def test_what_cannot_be_looked_at_is_one_line(run_made, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    for words, message in (
        (["nowhere"], "no such image, folder or video: nowhere"),
        ([str(tmp_path / "notes.txt")], "notes.txt is no image and no video"),
    ):
        with pytest.raises(UserError, match=message):
            find(words)
    (bad,) = frames(find([str(tmp_path / "bad.mp4")]))
    assert bad.reason.endswith("bad.mp4 gives no image: the file is damaged, or no such camera is there")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no image"):
        find([str(tmp_path / "empty")])
    done = picoquant("predict", run_made / "images", "--save-dir", tmp_path / "none")
    assert "holds no exported model" in refusal(done)


def test_past_what_is_damaged_all_others_are_done(run_made, tmp_path):
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    good = (run_made / "images/blocks_1.png").read_bytes()
    for name, data in (("a.png", good), ("b.png", good[:200]), ("c.jpg", b""), ("sub/d.png", good)):
        (images / name).write_bytes(data)
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    cv2.imwrite(str(images / "wide.png"), np.zeros((1, 65501, 3), np.uint8))
    done = picoquant(
        "predict", images, tmp_path / "clip.mp4", "--model", run_made / "export", "--out", tmp_path / "out", "--json"
    )  # fmt: skip
    said = refusal(done)
    assert "b.png is truncated; replace the file or leave it out, and 3 more; all others are done" in said
    assert str(tmp_path / "out/detections.jsonl") in said
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["source"].rpartition("/")[2] for row in rows] == [
        "a.png", "b.png", "c.jpg", "d.png", "wide.png", "clip.mp4"
    ]  # fmt: skip
    reasons = [row.get("error") for row in rows]
    assert [reason is None for reason in reasons] == [True, False, False, True, False, False]
    assert "is empty" in reasons[2] and "65501x1 pixels are too many for a JPEG" in reasons[4]
    assert "detections" not in rows[1] and "detections" in rows[4] and "annotated" not in rows[4]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.jpg",
        "d.jpg",
        "detections.jsonl",
    ]
    for reason in reasons:  # each in a line of its own while it works
        assert reason is None or sum(reason in line for line in done.stderr.splitlines()) >= 1
    assert "3 images" in done.stderr
