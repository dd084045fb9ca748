"""A graph made ready once gives what Paddle's executor gives, in as many threads as run it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest

from picoquant.quantization.engine.prepared import PreparedGraph

pytestmark = pytest.mark.skipif(
    int(paddle.__version__.split(".")[0]) >= 3, reason="its programs are those of Paddle 2.6"
)
WEIGHT = np.random.RandomState(0).randn(4, 3, 3, 3).astype("float32")


@pytest.fixture
def static_mode():
    paddle.enable_static()
    yield
    paddle.disable_static()


def program_with_gradients():
    """A convolution, a ReLU that may overwrite it, and gradients by the image and the weight; its names."""
    with paddle.utils.unique_name.guard():
        program = paddle.static.Program()
        with paddle.static.program_guard(program):
            image = paddle.static.data("image", [-1, 3, 8, 8])
            image.stop_gradient = False
            weight = program.global_block().create_var(
                name="weight", shape=WEIGHT.shape, dtype="float32", persistable=True, stop_gradient=False
            )
            scale = paddle.static.data("scale", [1])
            middle = paddle.nn.functional.relu(paddle.nn.functional.conv2d(image, weight, padding=1))
            total = (middle * middle * scale).sum()
            found = paddle.static.gradients([total], [image, weight])
    return program, ["image", "scale"], [middle.name, total.name, *(one.name for one in found)]


def feed(number):
    return {
        "image": np.random.RandomState(number).randn(2, 3, 8, 8).astype("float32"),
        "scale": np.float32([number + 1]),
    }


def by_executor(program, fetched):
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.Scope()
    scope.var("weight").get_tensor().set(WEIGHT, paddle.CPUPlace())
    return [executor.run(program, feed(number), fetched, scope=scope) for number in range(4)]


@pytest.mark.usefixtures("static_mode")
def test_it_gives_what_an_executor_gives():
    program, fed, fetched = program_with_gradients()
    expected = by_executor(program, fetched)
    graph = PreparedGraph(program, fed, fetched)
    runners = [graph.runner({"weight": WEIGHT}) for _ in range(2)]
    for run in runners:
        run(feed(9))  # what a run leaves behind is not read by the next
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda number: runners[number % 2](feed(number)), range(2)))
        found += list(pool.map(lambda number: runners[number % 2](feed(number)), range(2, 4)))
    for one, other in zip(expected, found):
        assert len(one) == len(other) == 4 and np.abs(one[3]).max() > 0.1
        for value, tensor in zip(one, other):
            np.testing.assert_array_equal(np.array(tensor), value)


@pytest.mark.usefixtures("static_mode")
def test_each_runner_has_weights_of_its_own():
    program, fed, fetched = program_with_gradients()
    graph = PreparedGraph(program, fed, fetched)
    one, other = graph.runner({"weight": WEIGHT}), graph.runner({"weight": 2 * WEIGHT})
    middle, doubled = (np.array(run(feed(0))[0]) for run in (one, other))
    np.testing.assert_allclose(doubled, 2 * middle, rtol=1e-5)
