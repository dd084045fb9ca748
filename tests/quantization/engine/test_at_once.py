"""Parts of a batch at once give what they give one after the other, bit for bit, and what the batch gives."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.quantization.engine import at_once
from picoquant.quantization.engine.at_once import AtOnce, Part, images_of_a_part
from picoquant.quantization.engine.traced import TracedForward
from tests.networks.small_net import SIZE
from tests.quantization.engine.test_traced import student_of

pytestmark = pytest.mark.skipif(
    int(paddle.__version__.split(".")[0]) >= 3, reason="on Paddle 3 parts run one after the other"
)
IMAGES = np.random.RandomState(5).rand(8, 3, SIZE, SIZE).astype("float32")
WANTED = np.random.RandomState(6).rand(8, 2, 8, 8).astype("float32")


@pytest.fixture
def student(small_model):
    return student_of(small_model, "fixed")


def loss(expected, found):
    """The mean over images."""
    scores, boxes = found.values()
    return ((scores - expected["scores"]) ** 2).sum() / len(boxes) + boxes.abs().mean()


def parts(size, images=IMAGES):
    cuts = [slice(start, start + size) for start in range(0, len(images), size)]
    return [Part({"image": images[cut]}, {"scores": WANTED[cut]}, size / len(images)) for cut in cuts]


def forward_of(student):
    return TracedForward(student.network, [one.stored for one in student.ranges.values()])


def gradients(student):
    """By name; they are dropped."""
    found = {one.name: one.grad.numpy() for one in student.network.trained() if one.grad is not None}
    for one in student.network.trained():
        one.clear_gradient(False)
    return found


def on(student, processors, some, monkeypatch, times=2):
    """Loss and gradients of the last of some calls, on so many processors."""
    monkeypatch.setattr(at_once, "available_cpus", lambda: processors)
    run = AtOnce(forward_of(student), student.graph.outputs, loss, 99)
    for _ in range(times):
        found = run(some, False), gradients(student)
    assert len(run._workers) == min(processors, len(some))
    return found


def test_at_once_and_one_after_the_other_are_equal(student, monkeypatch):
    apart, together = (on(student, count, parts(2), monkeypatch) for count in (1, 3))
    assert apart[0] == together[0] and apart[1].keys() == together[1].keys() and len(apart[1]) > 10
    for name, value in apart[1].items():
        np.testing.assert_array_equal(together[1][name], value, name)


def test_the_sum_of_parts_is_the_whole(student, monkeypatch):
    total, found = on(student, 2, parts(4), monkeypatch)
    forward = forward_of(student)
    results = forward({"image": paddle.to_tensor(IMAGES)}, student.graph.outputs, False)
    expected = loss({"scores": paddle.to_tensor(WANTED)}, dict(zip(student.graph.outputs, results)))
    expected.backward()
    assert total == pytest.approx(expected.item(), rel=1e-5)
    for name, value in gradients(student).items():
        np.testing.assert_allclose(found[name], value, atol=2e-5 * np.abs(value).max(), err_msg=name)


def test_what_is_there_is_added_to_and_changed_weights_are_read(student, monkeypatch):
    monkeypatch.setattr(at_once, "available_cpus", lambda: 2)
    run = AtOnce(forward_of(student), student.graph.outputs, loss, 99)
    run(parts(4), False)
    once = {one.name: one.grad.numpy() for one in student.network.trained() if one.grad is not None}
    run(parts(4), False)
    for name, value in gradients(student).items():
        np.testing.assert_allclose(value, 2 * once[name], rtol=1e-5, err_msg=name)
    state = student.state()
    student.restore({name: value * np.float32(1.5) for name, value in state.items()})
    run(parts(4), False)
    changed = gradients(student)
    student.restore(state)
    run(parts(4), False)
    again = gradients(student)
    assert any(not np.array_equal(changed[name], value) for name, value in once.items())
    for name, value in once.items():
        np.testing.assert_array_equal(again[name], value, name)


def test_paddle_names_go_on_as_if_nothing_had_been_called(student, monkeypatch):
    with paddle.utils.unique_name.guard():
        before = paddle.utils.unique_name.generate("name")
        on(student, 2, parts(4), monkeypatch)
        assert (before, paddle.utils.unique_name.generate("name")) == ("name_0", "name_1")


def test_what_fails_in_a_part_is_raised(student, monkeypatch):
    monkeypatch.setattr(at_once, "available_cpus", lambda: 2)

    def broken(expected, found):
        raise ZeroDivisionError("of a part")

    with pytest.raises(ZeroDivisionError, match="of a part"):
        AtOnce(forward_of(student), student.graph.outputs, broken, 99)(parts(4), False)


@pytest.mark.parametrize(("fitting", "expected"), [(1, 1), (3, 1), (4, 2), (7, 3), (8, 4), (99, 4)])
def test_no_more_at_once_than_memory_is_meant_for(student, monkeypatch, fitting, expected):
    monkeypatch.setattr(at_once, "available_cpus", lambda: 9)
    run = AtOnce(forward_of(student), student.graph.outputs, loss, fitting)
    assert len(run._open(parts(2))) == expected


@pytest.mark.parametrize(
    ("images", "fitting", "expected"),
    [
        *((images, 99, whole) for images, whole in ((1, 1), (4, 4), (5, 3), (6, 3), (8, 4), (9, 3), (12, 3), (32, 4))),
        (8, 8, 4), (8, 7, 2), (8, 5, 2), (8, 3, 1), (8, 1, 1), (4, 4, 4), (4, 3, 1), (2, 2, 2), (2, 1, 1), (33, 99, 4),
    ],
)  # fmt: skip
def test_parts_are_of_like_size_and_an_even_number(images, fitting, expected):
    assert images_of_a_part(images, fitting) == expected
