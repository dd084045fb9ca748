"""Training beside a teacher: what is learned, what is saved, and that it continues like any other training."""

from __future__ import annotations

import csv
from pathlib import Path

import picoquant  # isort: skip  (zlib before paddle)
import numpy as np
import paddle
import pytest

from picoquant.backends.paddle.compiled import compiled_teacher
from picoquant.detector.weights import read_weights
from picoquant.training.distillation.student import Student
from tests.training import tiny
from tests.training.taught import EVERYTHING, with_teacher
from tests.training.test_loop import same_end


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "work/metrics.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    tiny.run(folder, student=with_teacher)
    return folder


def test_the_losses_are_in_the_rows_and_their_sum(taught):
    found = rows(taught)
    assert list(found[0])[3:] == [
        "loss_vfl", "loss_bbox", "loss_dfl", "loss_fgd", "loss_ld", "loss_kd", "loss", "images_per_second",
    ]  # fmt: skip
    for row in found:
        parts = [float(row[name]) for name in row if name.startswith("loss_")]
        assert sum(parts) == pytest.approx(float(row["loss"]), rel=1e-4)
        assert all(part > 0 for part in parts)


def test_nothing_of_the_distillation_is_written_with_the_network(taught):
    own = set(picoquant.build_detector(tiny.CONFIG, 2).state_dict())
    for name in ("best.pdparams", "last.pdparams"):
        assert set(read_weights(taught / "work" / name)) == own


def test_continuing_ends_with_the_same_bits(taught, tmp_path):
    def stop_after(epoch: int) -> dict[str, float]:
        if epoch == 1:
            raise KeyboardInterrupt
        return {"mAP": 0.0}

    with pytest.raises(KeyboardInterrupt):
        tiny.run(tmp_path / "cut", student=with_teacher, scored=stop_after)
    for folder in (tmp_path / "cut", tmp_path / "whole"):
        tiny.run(folder, student=with_teacher, scored=lambda epoch: {"mAP": 0.0})
    assert same_end(tmp_path / "cut", tmp_path / "whole")


def test_the_layers_of_the_losses_are_trained(taught, tmp_path):
    kept = []

    def student(model):
        kept.append(with_teacher(model))
        return kept[0]

    tiny.run(tmp_path, student=student, epochs=1)
    paddle.seed(9)
    picoquant.build_detector(tiny.CONFIG, 2)
    start = Student(kept[0].student, None, 96, EVERYTHING).adaptation.state_dict()
    moved = [
        name
        for name, value in kept[0].adaptation.state_dict().items()
        if not np.array_equal(value.numpy(), start[name].numpy())
    ]
    assert any("student_mask" in name for name in moved) and any("teacher_context" in name for name in moved)


def test_a_student_that_is_its_own_teacher_has_nothing_to_learn():
    paddle.seed(1)
    model = picoquant.build_detector(tiny.CONFIG, 2)
    student = with_teacher(model, teacher=model)
    student.eval()  # batch norm by its stored numbers, as the teacher's
    image = paddle.rand([2, 3, 64, 96])
    box = paddle.to_tensor([[[8.0, 8, 40, 40]], [[30.0, 10, 90, 60]]])
    terms = student.loss(image, box, paddle.zeros([2, 1, 1], "int64"), paddle.ones([2, 1, 1]), 0)
    for name in ("loss_fgd", "loss_ld", "loss_kd"):
        assert abs(terms[name].item()) < 1e-5
    assert terms["loss_vfl"].item() > 0


def test_a_batch_without_objects():
    paddle.seed(1)
    student = with_teacher(picoquant.build_detector(tiny.CONFIG, 2))
    terms = student.loss(
        paddle.rand([2, 3, 64, 64]), paddle.zeros([2, 0, 4]), paddle.zeros([2, 0, 1], "int64"),
        paddle.zeros([2, 0, 1]), 0,
    )  # fmt: skip
    assert terms["loss_fgd"].item() == 0 and terms["loss_ld"].item() == 0 and terms["loss_kd"].item() > 0
    terms["loss"].backward()


@pytest.mark.parametrize("config", [tiny.CONFIG, "picodet_s_416_coco"])
def test_the_exported_teacher_says_what_the_network_says(config):
    """Of any size, not square too, and with an image that was normalised otherwise."""
    paddle.seed(2)
    model = picoquant.build_detector(config, 3)
    model.eval()
    scale, shift = (1 / 0.229, 2.0, 1.0), (-0.485 / 0.229, 0.5, 0.0)
    predict = compiled_teacher(model, True, True, scale, shift)
    for size in ((64, 96), (128, 64)):
        image = paddle.rand([2, 3, *size])
        with paddle.no_grad():
            moved = image * paddle.to_tensor(scale).reshape([3, 1, 1])
            maps = model.features(moved + paddle.to_tensor(shift).reshape([3, 1, 1]))
            scores, distances = model.head.raw(maps)
        expected = [*maps, paddle.concat(scores, 1), paddle.concat(distances, 1)]
        found = predict({"image": image.numpy()})
        assert len(found) == len(expected) == 6
        for one, other in zip(found, expected):
            assert one.shape == tuple(other.shape)
            assert np.abs(one - other.numpy()).max() < 1e-4 * max(1.0, float(other.abs().max()))
