"""Training by levels: steps of the optimiser, what is rounded, and the whole on a small network."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.errors import ConfigError
from picoquant.int8.files import open_network
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.passes.activations import activation_quantisers
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.engine import at_once
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.parameters import named_parameter
from picoquant.quantization.qat.learned_ranges.fixed import Fixed
from picoquant.quantization.qat.learning_rate import LearningRate, warm_cosine
from picoquant.quantization.qat.level_optimizer import LevelOptimizer, levels_of
from picoquant.quantization.qat.ranges import initialise_ranges
from picoquant.quantization.qat.student import open_student
from picoquant.quantization.quantize import quantize
from picoquant.quantization.settings import QuantizationSettings
from picoquant.utils.paddle_version.differences import paddle_3
from tests.networks.small_net import CONFIG, batches, export_small, settings


def weight(value, name="w"):
    return named_parameter(name, np.float32(value))


def stepped(optimizer, one, gradients, rate):
    """The parameter after each of some steps."""
    found = []
    for gradient in gradients:
        one.clear_gradient(False)
        (one * paddle.to_tensor(np.float32(gradient))).sum().backward()
        optimizer.set_lr(rate)
        optimizer.step()
        found.append(one.numpy())
    return found


def test_a_weight_moves_by_its_own_levels():
    """Gradients that agree: each step is the rate, in levels, whatever the size of weight and gradient."""
    for size in (1e-4, 1.0, 1e4):
        one = weight([[1.0 * size], [100.0 * size]])
        optimizer = LevelOptimizer([one], {"w": np.float32([[0.01 * size], [1.0 * size]])})
        # The loss depends on levels alike, so gradients by value differ as levels do.
        found = stepped(optimizer, one, [[[100.0 / size], [-1.0 / size]]] * 3, 0.5)
        for step, value in enumerate(found, start=1):
            np.testing.assert_allclose(value.ravel() / size, [1 - 0.005 * step, 100 + 0.5 * step], rtol=1e-5)


def test_steps_are_adams_with_one_second_moment():
    random = np.random.RandomState(0)
    gradients, levels = random.randn(6, 3, 4), np.exp(random.randn(3, 1))
    one, other = weight(np.zeros((3, 4))), weight(np.ones(2), "other")
    optimizer = LevelOptimizer([one, other], {"w": levels})
    found = stepped(optimizer, one, gradients, 0.1)
    value, first, second = np.zeros((3, 4)), 0, 0
    for count, gradient in enumerate(gradients, start=1):
        by_level = gradient * levels
        first, second = 0.9 * first + 0.1 * by_level, 0.99 * second + 0.01 * (by_level**2).mean()
        value = value - 0.1 * levels * (first / (1 - 0.9**count)) / np.sqrt(second / (1 - 0.99**count))
        np.testing.assert_allclose(found[count - 1], value, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(other.numpy(), [1, 1])


def test_a_state_is_all_that_the_next_step_depends_on():
    gradients = np.random.RandomState(1).randn(5, 4)
    whole = weight(np.zeros(4))
    expected = stepped(LevelOptimizer([whole], {"w": np.float32([0.1])}), whole, gradients, 0.3)
    one = weight(np.zeros(4))
    first = LevelOptimizer([one], {"w": np.float32([0.1])})
    stepped(first, one, gradients[:2], 0.3)
    kept = {name: paddle.to_tensor(value.numpy()) for name, value in first.state_dict().items()}
    again = LevelOptimizer([one], {"w": np.float32([0.1])})
    again.set_state_dict(kept)
    np.testing.assert_array_equal(stepped(again, one, gradients[2:], 0.3), expected[2:])


def test_the_rate_rises_and_falls():
    rate = LearningRate(warm_cosine(2.0, 40))
    found = []
    for _ in range(40):
        found.append(rate())
        rate.step()
    np.testing.assert_allclose(found[:4], [0.5, 0.875, 1.25, 1.625])
    np.testing.assert_allclose(found[4:], 1 + np.cos(np.pi * np.arange(36) / 36), atol=1e-6)


@pytest.fixture
def student(tmp_path):
    """A student whose every held tensor is rounded; all ranges are 1."""
    export_small(tmp_path)
    fold_folder(tmp_path)
    program = ProgramModel.load(tmp_path)
    operators = quantizable_operators(program, settings().quant)
    found = open_student(tmp_path, operators, settings().quant, Fixed(), Convolutions(True), all_held=True)
    initialise_ranges(found, dict.fromkeys(found.ranges, 1.0))
    return found


def test_every_tensor_that_int8_holds_is_rounded_and_clipped_values_have_no_gradient(student):
    names = activation_quantisers(student.graph, student.operators)
    assert set(student.ranges) == set(names) and len(names) > len(student.operators)
    feed = {"image": paddle.to_tensor(next(batches(3))["image"])}
    values = student.network(feed, names)
    for value in values:
        levels = value.numpy() * 127
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
        assert np.abs(levels).max() <= 127.001
    image = feed["image"]
    image.stop_gradient = False
    (result,) = student.network({"image": image * 3}, ["image"])
    result.sum().backward()
    np.testing.assert_array_equal(image.grad.numpy(), 3.0 * (image.numpy() * 3 <= 1))


@pytest.mark.parametrize("zero_point", [-128, -77, 0, 127])
def test_a_range_with_a_zero_point_rounds_to_its_integers(zero_point):
    """As `QuantParams` says; gradients end with the integers."""
    params = QuantParams.of_range(0.9, zero_point=zero_point)
    found = Fixed({"x": zero_point}).range_of("x", settings().quant, False, ())
    found.initialise(0.9)
    values = paddle.to_tensor(np.linspace(-3, 3, 4001, dtype="float32"), stop_gradient=False)
    rounded = found(values, following=False)
    rounded.sum().backward()
    exact, inside = values.numpy() / params.scale, params.fake_quantise(values.numpy())
    clear = np.abs(exact % 1 - 0.5) > 1e-3
    np.testing.assert_allclose(rounded.numpy()[clear], inside[clear], atol=1e-5)
    within = (values.numpy() > params.lowest) & (values.numpy() < params.highest)
    np.testing.assert_array_equal(values.grad.numpy(), within)


def test_levels_are_those_that_the_int8_model_has(student):
    ranges = {name: float(number + 1) for number, name in enumerate(student.ranges)}
    found = levels_of(student, ranges)
    for operator in student.operators:
        value = student.network.stored[operator.weight].numpy()
        np.testing.assert_allclose(
            found[operator.weight], np.abs(value).max((1, 2, 3), keepdims=True) / 127, rtol=1e-6
        )
    biases = set(found) - {operator.weight for operator in student.operators}
    assert len(biases) == len(student.operators)
    of_bias = np.sort([found[name].item() * 127 for name in biases])
    np.testing.assert_allclose(of_bias, np.rint(of_bias), atol=1e-5)  # the ranges above
    fewer = levels_of(student, ranges, (4, 5))
    for name, one in fewer.items():
        np.testing.assert_allclose(one, found[name] * 127 / (15 if name in biases else 7), rtol=1e-6)


def test_training_brings_a_network_nearer_to_its_teacher(small_model, tmp_path):
    """A teacher with other weights leaves much to learn; so do few bits of the activations."""
    (tmp_path / "teacher").mkdir()
    export_small(tmp_path / "teacher", seed=4)
    distillation = {"teacher_model_dir": str(tmp_path / "teacher")}
    wanted = replace(
        settings(40, {"activation_bits": 6}, distillation),
        quantization=QuantizationSettings(training="levels", level_rate=2.0),
    )
    result = quantize(small_model, tmp_path / "model", tmp_path / "work", batches, wanted, config=CONFIG)
    with open(tmp_path / "model/qat.csv", newline="") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream)]
    assert np.mean(losses[-5:]) < 0.25 * losses[0]
    assert result.metrics["steps"] == 40 and "rollbacks" not in result.metrics


def test_a_batch_in_parts_trains_as_the_whole(small_model, tmp_path, monkeypatch):
    """What keeps memory in bounds: two images, one after the other."""
    (tmp_path / "teacher").mkdir()
    export_small(tmp_path / "teacher", seed=4)
    wanted = replace(
        settings(6, {}, {"teacher_model_dir": str(tmp_path / "teacher")}),
        quantization=QuantizationSettings(training="levels", level_rate=2.0),
    )
    losses, weights = {}, {}
    for name, images in (("whole", 99), ("parts", 1)):  # of a step; how it calibrates stays
        monkeypatch.setattr("picoquant.quantization.qat.step.images_at_once", lambda graph, most=images: most)
        quantize(small_model, tmp_path / name, tmp_path / f"work {name}", batches, wanted, config=CONFIG)
        with open(tmp_path / name / "qat.csv", newline="") as stream:
            losses[name] = [float(row["loss"]) for row in csv.DictReader(stream)]
        with np.load(tmp_path / name / "int8_network.npz") as arrays:
            weights[name] = {key: value for key, value in arrays.items() if value.dtype == np.int8}
    assert len(next(batches(0))["image"]) > 1
    np.testing.assert_allclose(losses["parts"], losses["whole"], rtol=1e-4)
    assert weights["whole"]
    for key, value in weights["whole"].items():  # a weight on a boundary may be one level off
        assert (weights["parts"][key] != value).mean() < 0.01


def test_the_integers_are_the_same_however_many_processors_there_are(small_model, tmp_path, monkeypatch):
    """A batch of six is two parts, at once or one after the other."""

    def six(start):
        return ({name: np.repeat(value, 3, 0) for name, value in feed.items()} for feed in batches(start))

    (tmp_path / "teacher").mkdir()
    export_small(tmp_path / "teacher", seed=4)
    wanted = replace(
        settings(4, {}, {"teacher_model_dir": str(tmp_path / "teacher")}),
        quantization=QuantizationSettings(training="levels", level_rate=2.0),
    )
    used = []
    threads_for = at_once.AtOnce._open
    monkeypatch.setattr(
        at_once.AtOnce, "_open", lambda *a: used.append(len(threads_for(*a))) or threads_for(*a)
    )
    files = []
    for processors in (1, 2):
        monkeypatch.setattr(at_once, "available_cpus", lambda count=processors: count)
        out = tmp_path / str(processors)
        quantize(small_model, out, tmp_path / f"work {processors}", six, wanted, config=CONFIG)
        files.append([(out / name).read_bytes() for name in ("int8_network.npz", "qat.csv")])
    # On Paddle 3 parts run one after the other anyway.
    assert files[0] == files[1] and set(used) == (set() if paddle_3() else {1, 2})


@pytest.mark.parametrize(
    ("own", "more", "message"),
    [
        ({"learned_ranges": "lsq"}, {}, "lsq learns them; set Quantize.learned_ranges to none"),
        ({"fold_batch_norm": False}, {}, "batch-norm must be folded .* set Quantize.fold_batch_norm to true"),
        ({}, {"calibration_batches": 0}, "so it needs calibration images: set Calibration.count"),
    ],
)
def test_what_contradicts_it_is_refused(own, more, message):
    with pytest.raises(ConfigError, match=f"Quantize.training: levels .*{message}"):
        replace(settings(), quantization=QuantizationSettings(training="levels", **own), **more)
    for other in ({"training": "configured"}, {"training": "levels", "method": "ptq"}):
        replace(settings(), quantization=QuantizationSettings(**other, **own), **more)


def test_the_rate_is_above_nothing():
    with pytest.raises(ConfigError, match="Quantize.level_rate: expected a number above 0"):
        QuantizationSettings(level_rate=0)
    with pytest.raises(ConfigError, match=r"Quantize.training: 'level' .*did you mean levels"):
        QuantizationSettings(training="level")


def test_training_with_zero_points_starts_and_ends_with_them(small_model, tmp_path):
    """The ranges and zero points that calibration has chosen are those of the network that is written."""
    quant = {"symmetric_activations": False}
    of = {}
    for method in ("ptq", "qat"):
        wanted = replace(settings(4), quantization=QuantizationSettings(method=method, training="levels"))
        wanted = replace(wanted, quant=replace(wanted.quant, **quant))
        folder = tmp_path / method
        quantize(small_model, folder / "model", folder / "work", batches, wanted, config=CONFIG)
        of[method] = open_network(ModelFolder.open(folder / "model"))
    assert of["qat"].zero_points == of["ptq"].zero_points and set(of["qat"].zero_points) == set(
        of["qat"].held
    )
    assert len(set(of["qat"].zero_points.values())) > 1
    for name in of["qat"].held:
        assert of["qat"].ranges[name] == pytest.approx(of["ptq"].ranges[name], rel=1e-5)
