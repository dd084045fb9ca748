"""What stops a training: damaged files, other classes, boxes that are too small."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from picoquant.data.dataset import Dataset, Record, Repairs
from picoquant.data.images import header_fault
from picoquant.data.inspection.faults import decoding_faults, errors
from picoquant.data.inspection.statistics import NetworkInput

NETWORK = NetworkInput(64, 64, False, 8)
PICTURE = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)


def encoded(suffix):
    return cv2.imencode(suffix, PICTURE)[1].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_whole_files_of_every_kind_have_no_fault(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix))
    assert header_fault(path) is None


@pytest.mark.parametrize(
    "content, fault",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no image that OpenCV reads"),
        (b"<html>not found</html>", "is no image that OpenCV reads"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "has a damaged header"),
        (b"\x89PNG\r\n\x1a\n\0\0", "has a damaged header"),
        (b"\0" * 4000, "is no image that OpenCV reads"),
    ],
    ids=["empty", "lfs", "html", "jpeg", "png", "zeros"],
)
def test_faults_that_a_header_shows(tmp_path, content, fault):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert header_fault(path) == fault


def test_a_missing_file_and_a_folder_are_faults(tmp_path):
    assert header_fault(tmp_path / "none.jpg") == "cannot be read (No such file or directory)"
    assert header_fault(tmp_path) == "cannot be read (Is a directory)"


def record(number, path="", box=(0, 0, 30, 30), size=(64, 64)):
    boxes = np.array([box], np.float32)
    return Record(number, str(path), *size, boxes, np.zeros(1, np.int32), np.zeros(1, bool))


def data_set(section, count=200, bad=0, names=("a",), **more):
    records = tuple(record(n, f"/{section}/{n}.jpg", **more) for n in range(count))
    faults = {records[n].path: f"image {records[n].path} is empty" for n in range(bad)}
    return Dataset(
        records, names, tuple(range(1, len(names) + 1)), section, repairs=Repairs(unreadable=faults)
    )


def said(train, held_out, network=NETWORK):
    return [str(error) for error in errors(train, held_out, network)]


def test_one_damaged_image_of_200_stops_evaluation_alone():
    train, held_out = data_set("TrainDataset", bad=1), data_set("EvalDataset", bad=1)
    assert said(train, data_set("EvalDataset")) == []
    (line,) = said(train, held_out)
    assert line == (
        "1 of 200 images of EvalDataset cannot be read (evaluation needs every image), the first: image "
        "/EvalDataset/0.jpg is empty; replace the files or take them out of the annotations"
    )


def test_one_percent_of_damaged_images_stops_training():
    (line,) = said(data_set("TrainDataset", bad=2), data_set("EvalDataset"))
    assert line.startswith("2 of 200 images of TrainDataset cannot be read")


def test_a_damaged_image_that_no_record_uses_stops_nothing():
    held_out = data_set("EvalDataset", bad=1)
    assert said(data_set("TrainDataset"), replace(held_out, records=held_out.records[1:])) == []


def test_other_classes_stop_a_training_and_nothing_else():
    train, held_out = data_set("TrainDataset"), data_set("EvalDataset", names=("a", "b"))
    (line,) = said(train, held_out)
    assert "'b' is in one of them only" in line
    assert said(train, held_out, network=None) == []


def test_boxes_that_are_all_too_small_stop_a_training():
    small = data_set("TrainDataset", box=(0, 0, 7, 7))
    (line,) = said(small, data_set("EvalDataset"))
    assert line.startswith("all 200 boxes of TrainDataset are below 8 pixels on both sides")
    assert "input of 64x64 (at most 7)" in line
    assert said(data_set("TrainDataset", box=(0, 0, 7, 8)), data_set("EvalDataset")) == []


def test_decoding_finds_what_a_header_hides(tmp_path):
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    whole.write_bytes(encoded(".jpg"))
    cut.write_bytes(encoded(".jpg")[:-400])
    assert header_fault(cut) is None
    images = Dataset((record(1, whole), record(2, cut)), ("a",), (1,))
    assert decoding_faults(images) == {str(cut): f"image {cut} is truncated"}
