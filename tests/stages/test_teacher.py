"""A teacher in stage `train`: what it must be, what its training leaves, and that it is a part of what was asked."""

from __future__ import annotations

import csv
import json

import picoquant as package  # isort: skip  (zlib before paddle)
import numpy as np
import paddle
import pytest

from picoquant.detector.weights import read_weights, save_weights
from picoquant.errors import UserError
from picoquant.stages.model import taught, teacher_inputs
from picoquant.stages.plan import load_plan
from picoquant.training.distillation.student import Student
from tests.command_line import SMALL, picoquant, with_sets

STUDENT, TEACHER = "picodet_xs_320_coco_lcnet", "picodet_s_416_coco_npu"
NAMES = ("cup", "pen")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of teachers with two and with five classes, and of a backbone alone."""
    folder = tmp_path_factory.mktemp("teachers")
    paddle.seed(4)
    for classes in (2, 5):
        save_weights(package.build_detector(TEACHER, classes), folder / f"{classes}.pdparams")
    whole = read_weights(folder / "2.pdparams")
    alone = {name[9:]: value for name, value in whole.items() if name.startswith("backbone.")}
    save_weights(alone, folder / "backbone.pdparams")
    return folder


def plan_of(file, *texts):
    return load_plan(STUDENT, [f"Train.teacher={TEACHER}", f"Train.teacher_weights={file}", *texts])


def test_the_students_losses_come_from_the_exported_teacher(weights):
    plan = plan_of(weights / "2.pdparams", "Train.distillation=[FGD, LD, KD]")
    paddle.seed(5)
    model = package.build_detector(STUDENT, 2)
    student = taught(plan, model, NAMES, "cpu")
    assert isinstance(student, Student) and student.student is model
    image = paddle.rand([1, 3, 96, 64])
    terms = student.loss(
        image, paddle.to_tensor([[[8.0, 8, 50, 70]]]), paddle.zeros([1, 1, 1], "int64"), paddle.ones([1, 1, 1]), 0
    )  # fmt: skip
    assert {"loss_fgd", "loss_ld", "loss_kd"} < set(terms)
    # The teacher gets what it was trained with: the student's ImageNet numbers taken back.
    teacher = package.build_detector(TEACHER, 2)
    teacher.set_state_dict({k: paddle.to_tensor(v) for k, v in read_weights(weights / "2.pdparams").items()})
    teacher.eval()
    mean, std = (
        paddle.to_tensor(v).reshape([3, 1, 1]) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with paddle.no_grad():
        expected = teacher.features(image * std + mean)
    found = student._teacher[0](image).maps
    assert max(float((a - b).abs().max()) for a, b in zip(found, expected)) < 1e-4


@pytest.mark.parametrize(
    ("file", "texts", "error"),
    [
        ("5.pdparams", [], "trained for another number of classes than the student's 2: name a teacher"),
        ("backbone.pdparams", [], "holds a backbone alone, and a teacher must be trained whole"),
        ("5.pdparams", ["Train.teacher=picodet_l_416_coco_lcnet"], "weights of another architecture"),
        (
            "gone.pdparams",
            [],
            "no weights at .*gone.pdparams; Train.teacher_weights names those of the teacher",
        ),
    ],
)
def test_what_a_teacher_must_be(weights, file, texts, error):
    with pytest.raises(UserError, match=error) as found:
        taught(plan_of(weights / file, *texts), package.build_detector(STUDENT, 2), NAMES, "cpu")
    assert "\n" not in str(found.value)


def test_maps_may_be_of_a_teacher_of_other_classes(weights):
    plan = plan_of(weights / "5.pdparams", "Train.distillation=FGD")
    assert isinstance(taught(plan, package.build_detector(STUDENT, 2), NAMES, "cpu"), Student)


def test_without_a_teacher_nothing_changes():
    plan = load_plan(STUDENT)
    model = package.build_detector(STUDENT, 2)
    assert taught(plan, model, NAMES, "cpu") is model and teacher_inputs(plan) == {}


def test_what_decides_the_result(weights):
    def inputs(*texts):
        return json.dumps(teacher_inputs(plan_of(weights / "2.pdparams", *texts)))

    assert inputs() == inputs() != inputs("Train.distillation=LD")
    assert inputs() != inputs("Train.distillation={LD: {T: 9}, KD: {}}")
    assert inputs() == inputs("Train.distillation=[LD, KD]")


def test_a_run_with_another_run_as_its_teacher(evaluated_run, tmp_path):
    """The same classes in another order are another teacher's; the result holds the student alone."""
    arguments = ["train", "-c", "quickstart", "--save-dir", tmp_path / "run", *with_sets(SMALL)]
    arguments += with_sets([f"Train.teacher={evaluated_run}", "Train.distillation=[FGD, LD, KD]"])
    done = picoquant(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"class scores (KD) from {evaluated_run}" in done.stderr
    own, other = (
        read_weights(folder / "train/best.pdparams") for folder in (tmp_path / "run", evaluated_run)
    )
    assert set(own) == set(other)
    assert any(not np.array_equal(own[name], other[name]) for name in own)
    with open(tmp_path / "run/train/metrics.csv", newline="", encoding="utf-8") as stream:
        assert float(next(csv.DictReader(stream))["loss_ld"]) >= 0
    manifest = evaluated_run / "run.json"
    assert "skipped, done before" in picoquant(*arguments).stderr
    assert json.loads(manifest.read_text())["stages"]["train"]["metrics"]["classes"]


def test_the_classes_of_a_run_are_compared_by_name(weights, tmp_path):
    run = tmp_path / "large"
    (run / "train").mkdir(parents=True)
    (run / "train/best.pdparams").write_bytes((weights / "2.pdparams").read_bytes())
    (run / "config.yml").write_text(f"_BASE_: {TEACHER}.yml\n")
    record = {"status": "done", "metrics": {"classes": ["pen", "cup"]}}
    (run / "run.json").write_text(json.dumps({"stages": {"train": record}}))
    plan = load_plan(STUDENT, [f"Train.teacher={run}"])
    with pytest.raises(UserError, match="has the classes pen, cup and the student cup, pen: name a teacher"):
        taught(plan, package.build_detector(STUDENT, 2), NAMES, "cpu")
