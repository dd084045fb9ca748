"""The whole of quantisation on a small network."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.backends.onnx.export import write_onnx_form
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.source import Source
from picoquant.errors import ConfigError, DataError, PicoquantError, UserError, WeightsError
from picoquant.int8.operators import quantizable_operators
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.qat.learned_ranges.choose import range_strategy
from picoquant.quantization.qat.student import open_student
from picoquant.quantization.qat_graph import FOLDER as QAT_GRAPH
from picoquant.quantization.quantize import quantize
from picoquant.quantization.score import Score
from picoquant.quantization.settings import QuantizationSettings
from picoquant.storage.checkpoints import Checkpoints
from tests.networks.small_net import CONFIG, batches, export_small, settings


def run(model, folder, wanted, **more):
    """Quantise into `folder/model`."""
    return quantize(model, folder / "model", folder / "work", batches, wanted, config=CONFIG, **more)


def predictions(folder, feed):
    """Outputs of a saved model in Paddle's inference runtime."""
    return open_predictor(ModelFolder.open(folder, config=CONFIG))(feed)


class Recorder:
    """An evaluation that keeps what the program predicted and gives mAPs, or scores, from a list.

    The last one is of the written model with every tensor in INT8.
    """

    def __init__(self, values):
        self.values, self.seen = list(values), []

    def __call__(self, predict):
        self.seen.append(predict(next(batches(100))))
        value = self.values[len(self.seen) - 1]
        return value if isinstance(value, Score) else Score(value)


@pytest.fixture(scope="module")
def quantized(small_model, tmp_path_factory):
    """A quantisation of three steps, evaluated before, after step 2 and at the end, and every tensor in INT8."""
    folder = tmp_path_factory.mktemp("quantized")
    before = {path.name: path.read_bytes() for path in small_model.iterdir()}
    recorder = Recorder([0.1, 0.2, 0.3, 0.25])
    result = run(small_model, folder, settings(quant={"onnx_format": True}), evaluate=recorder)
    assert {path.name: path.read_bytes() for path in small_model.iterdir()} == before
    return folder, result, recorder


def test_the_best_state_is_chosen_by_fidelity_too(small_model, tmp_path, caplog):
    # By mAP alone step 2 would be the best; it agrees with FP32 far less. The last value is with every tensor in INT8.
    recorder = Recorder([Score(0.300, 0.80), Score(0.302, 0.70), Score(0.301, 0.82), Score(0.3, 0.8)])
    caplog.set_level("INFO", logger="picoquant")
    result = run(small_model, tmp_path, settings(), evaluate=recorder)
    assert (result.metrics["best_step"], result.metrics["mAP"]) == (3, 0.301)
    assert result.metrics["evaluations"] == [[0, 0.3, 0.8], [2, 0.302, 0.7], [3, 0.301, 0.82]]
    assert (
        "INT8 mAP 0.3020, fidelity 0.7000 after step 2; best 0.3000, fidelity 0.8000 after step 0"
        in caplog.text
    )
    with open(tmp_path / "model" / "qat.csv") as stream:
        assert [row["fidelity"] for row in csv.DictReader(stream)] == ["", "0.7", "0.82"]


def test_files_and_metrics(quantized):
    folder, result, _ = quantized
    model = ["infer_cfg.yml", "model.pdiparams", "model.pdmodel"]
    onnx = ["onnx_format/model.pdiparams", "onnx_format/model.pdmodel"]
    graph = [f"qat_graph/{name}" for name in model]
    assert list(result.files) == sorted(
        [*model, "int8_network.npz", *onnx, "qat.csv", *graph, "quantization.json"]
    )
    assert result.metrics["evaluations"] == [[0, 0.1], [2, 0.2], [3, 0.3]]
    assert (result.metrics["mAP"], result.metrics["best_step"]) == (0.3, 3)
    assert result.metrics["every_tensor_mAP"] == 0.25
    with open(folder / "model" / "qat.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [row["mAP"] for row in rows] == ["", "0.2", "0.3"]
    assert not (folder / "work" / "models").exists()


def test_every_convolution_has_a_sound_range(quantized):
    folder, result, _ = quantized
    described = json.loads((folder / "model" / "quantization.json").read_text())
    kinds = [operator["type"] for operator in described["operators"]]
    # Stem, pointwise and two heads are conv2d; the heads read the same activation.
    assert sorted(kinds) == ["conv2d"] * 4 + ["depthwise_conv2d"]
    assert result.metrics["quantized_operators"] == 5
    assert len({operator["activation"] for operator in described["operators"]}) == 4
    ranges = np.array(list(described["ranges"].values()))
    assert np.isfinite(ranges).all() and (ranges > 0).all()
    # Every image is uniform in 0..1, so the input's range is just under 1.
    assert 0.99 < described["ranges"]["image"] <= 1.0


def test_the_model_written_is_the_one_evaluated(quantized, tmp_path):
    folder, _, recorder = quantized
    feed = next(batches(100))
    write_onnx_form(Source(ModelFolder.open(folder / "model", config=CONFIG)), tmp_path / "int8.onnx")
    in_onnx_runtime = OnnxPredictor(tmp_path / "int8.onnx")(feed)
    in_paddle = predictions(folder / "model", feed)
    for evaluated, onnx, paddles in zip(recorder.seen[2], in_onnx_runtime, in_paddle):
        np.testing.assert_array_equal(onnx, evaluated)
        np.testing.assert_allclose(paddles, evaluated, rtol=1e-6)  # the last sigmoid is in float


def test_every_tensor_in_int8_rounds_the_scores_more(quantized):
    """The scores' sigmoid is behind the last convolution: the model written has it in float."""
    folder, _, recorder = quantized
    described = json.loads((folder / "model" / "quantization.json").read_text())
    (scores, boxes), (every_score, every_box) = recorder.seen[2:4]
    largest = next(value for name, value in described["ranges"].items() if name.startswith("sigmoid"))
    assert 0 < np.abs(every_score - scores).max() <= 0.5001 * largest / 127
    np.testing.assert_allclose(every_box, boxes, rtol=1e-6)


@pytest.mark.parametrize(
    "quant",
    [{}, {"use_pact": True}, {"weight_quantize_type": "abs_max"}, {"weight_bits": 5, "activation_bits": 6}],
)
def test_model_written_predicts_what_the_fake_quantised_program_does(small_model, tmp_path, quant):
    own = QuantizationSettings(channel_copies=1)  # the student is opened from the model's own files
    wanted, feed = replace(settings(2, quant), quantization=own), next(batches(100))
    run(small_model, tmp_path, wanted)
    shutil.copytree(small_model, tmp_path / "copy")
    fold_folder(tmp_path / "copy")
    operators = quantizable_operators(ProgramModel.load(tmp_path / "copy"), wanted.quant)
    strategy = range_strategy(wanted.quantization, wanted.quant)
    student = open_student(tmp_path / "copy", operators, wanted.quant, strategy, Convolutions(True))
    student.restore(Checkpoints(tmp_path / "work" / "checkpoints").newest().arrays["last"])
    with paddle.no_grad():
        found = student.network({"image": paddle.to_tensor(feed["image"])}, student.graph.outputs)
    outputs = [one.numpy() for one in found]
    graph, written = (predictions(tmp_path / "model" / part, feed) for part in (QAT_GRAPH, ""))
    level = 1 / (2 ** (wanted.quant.activation_bits - 1) - 1)
    for trained, same, rounded in zip(outputs, graph, written):
        # Training does not round results, the graph does: a quarter of a level each, and what follows from it.
        assert np.abs(same - trained).mean() < 0.5 * level * np.abs(trained).max()
        # The written biases are whole numbers, the graph's are not: one value in ten is off by a level.
        assert np.abs(rounded - same).mean() < 0.15 * level * np.abs(trained).max()


def test_onnx_form_differs_by_rounding_only(quantized):
    folder, _, recorder = quantized
    got = predictions(folder / "model" / "onnx_format", next(batches(100)))
    for expected, value in zip(recorder.seen[2], got):
        # Halves are rounded to even there, so single values are off by one of 255 levels.
        assert np.abs(value - expected).mean() < 0.01 * np.abs(expected).max()


def test_weights_are_whole_numbers(quantized):
    folder, _, _ = quantized
    described = json.loads((folder / "model" / "quantization.json").read_text())
    weights = stored(folder / "model")
    for operator in described["operators"]:
        value = weights[operator["weight"]]
        assert (value == np.rint(value)).all() and np.abs(value).max() == 127


def stored(folder):
    """Stored variables of a saved model."""
    model = ProgramModel.load(folder)
    return model.values


def test_dynamic_mode_is_back(quantized):
    assert paddle.in_dynamic_mode()


BY_LEVELS = QuantizationSettings(training="levels", level_rate=0.05, guard_rise=None)


@pytest.mark.parametrize(
    ("use_pact", "own"),
    [(False, QuantizationSettings()), (True, QuantizationSettings()), (False, BY_LEVELS)],
    ids=["average", "pact", "levels"],
)
def test_a_run_interrupted_after_each_step_ends_as_an_undisturbed_one(small_model, tmp_path, use_pact, own):
    rate = {"type": "CosineAnnealingDecay", "learning_rate": 1e-2, "T_max": 4}
    wanted = replace(settings(4, {"use_pact": use_pact}, learning_rate=rate), quantization=own)
    run(small_model, tmp_path / "whole", wanted)
    asked = []

    def a_step_at_a_time(start):
        asked.append(start)
        yield next(feeds := batches(start))
        if len(asked) == 1:  # calibration
            yield from feeds
        raise KeyboardInterrupt

    folder = tmp_path / "killed"
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            quantize(small_model, folder / "model", folder / "work", a_step_at_a_time, wanted, config=CONFIG)
    assert asked == [0, 0, 1, 2]
    run(small_model, folder, wanted)
    for name in ("model.pdmodel", "model.pdiparams", "qat.csv"):
        whole, killed = (path / "model" / name for path in (tmp_path / "whole", folder))
        assert whole.read_bytes() == killed.read_bytes()


def test_a_run_whose_start_was_lost_says_so(small_model, tmp_path):
    """The ranges of what is not learned follow those of the start."""
    wanted = settings(2)

    asked, folder = [], tmp_path

    def one_step(start):
        asked.append(start)
        yield from itertools.islice(batches(start), 9 if len(asked) == 1 else 1)  # calibration takes more
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(small_model, folder / "model", folder / "work", one_step, wanted, config=CONFIG)
    (kept,) = folder.rglob("largest.json")
    kept.write_text("{", encoding="utf-8")
    with pytest.raises(
        PicoquantError, match=r"largest\.json, which says where .* gone or damaged; delete its"
    ):
        run(small_model, folder, wanted)


def test_the_best_evaluation_is_kept(small_model, tmp_path):
    recorder = Recorder([0.1, 0.4, 0.2, 0.4])
    result = run(small_model, tmp_path, settings(learning_rate=0.05), evaluate=recorder)
    assert (result.metrics["mAP"], result.metrics["best_step"]) == (0.4, 2)
    got = predictions(tmp_path / "model", next(batches(100)))
    np.testing.assert_allclose(got[1], recorder.seen[1][1], atol=1e-4)
    assert np.abs(got[1] - recorder.seen[2][1]).max() > 1e-3


@pytest.mark.parametrize("quant", [{}, {"use_pact": True}])
def test_training_starts_at_what_calibration_alone_would_write(small_model, tmp_path, quant):
    """Also where calibration has clipped much, so that the student's own values reach less far."""
    own = {"ranges": "percentile", "percentile": 80.0}
    seen = {}
    for method in ("ptq", "qat"):
        wanted = settings(1, quant)
        wanted = replace(wanted, quantization=QuantizationSettings(method=method, **own))
        recorder = Recorder([0.5] * 9)
        run(small_model, tmp_path / method, wanted, evaluate=recorder)
        seen[method] = recorder.seen[0]
    for trained, calibrated in zip(seen["qat"], seen["ptq"]):
        np.testing.assert_array_equal(trained, calibrated)


def test_target_metric_ends_training(small_model, tmp_path):
    recorder = Recorder([0.1, 0.5, 0.5])
    result = run(small_model, tmp_path, settings(9, target_metric=0.4), evaluate=recorder)
    assert result.metrics["steps"] == 2


def test_patience_ends_training_with_the_best_kept(small_model, tmp_path):
    # Step 0 is the best; steps 2 and 4 are not better, so step 6 is not reached.
    recorder = Recorder([0.5, 0.5, 0.4, 0.5])
    wanted = replace(settings(9, learning_rate=0.05), quantization=QuantizationSettings(patience=2))
    result = run(small_model, tmp_path, wanted, evaluate=recorder)
    assert (result.metrics["steps"], result.metrics["best_step"], result.metrics["mAP"]) == (4, 0, 0.5)
    got = predictions(tmp_path / "model", next(batches(100)))
    np.testing.assert_allclose(got[1], recorder.seen[0][1], atol=1e-4)


def test_wrong_origin_metric(small_model, tmp_path):
    with pytest.raises(UserError, match="origin_metric is 0.3 but the FP32 model reaches 0.1"):
        run(small_model, tmp_path, settings(origin_metric=0.3), evaluate=Recorder([0.1]))


def test_model_for_one_image_at_a_time(tmp_path):
    (tmp_path / "fixed").mkdir()
    export_small(tmp_path / "fixed", batch_size=1)
    # Batches hold two images.
    assert run(tmp_path / "fixed", tmp_path, settings(2)).metrics["steps"] == 2


def test_unknown_distillation_node_gives_the_nearest(small_model, tmp_path):
    wanted = settings(distillation={"node": ["conv2d_3.tmp_9"]})
    with pytest.raises(ConfigError, match=r"no variable conv2d_3.tmp_9 \(did you mean conv2d_"):
        run(small_model, tmp_path, wanted)


def test_distillation_of_chosen_nodes(small_model, tmp_path):
    nodes = [["relu6_2.tmp_0"], ["conv2d_3.tmp_0"]]
    wanted = settings(2, distillation={"node": nodes, "loss": ["l2", "soft_label"], "alpha": [1.0, 0.5]})
    run(small_model, tmp_path, wanted)
    losses = np.loadtxt(tmp_path / "model" / "qat.csv", delimiter=",", skiprows=1, usecols=1)
    assert (losses > 0).all() and np.isfinite(losses).all()


def test_another_teacher(small_model, tmp_path):
    shutil.copytree(small_model, tmp_path / "teacher")
    (tmp_path / "teacher" / "model.pdmodel").rename(tmp_path / "teacher" / "large.pdmodel")
    named = {"teacher_model_dir": str(tmp_path / "teacher"), "teacher_model_filename": "large.pdmodel"}
    run(small_model, tmp_path / "own", settings(2))
    run(small_model, tmp_path / "other", settings(2, distillation=named))
    # The other one is the same network under another name.
    own, other = (tmp_path / name / "model" / "qat.csv" for name in ("own", "other"))
    assert own.read_text() == other.read_text()
    with pytest.raises(WeightsError, match="large.pdmodel is missing"):
        named["teacher_model_dir"] = str(small_model)
        run(small_model, tmp_path / "none", settings(2, distillation=named))


def test_other_settings_start_anew(small_model, tmp_path, caplog):
    run(small_model, tmp_path, settings(2))
    caplog.set_level("INFO", logger="picoquant")
    run(small_model, tmp_path, settings(3))
    assert "start anew" in caplog.text and "step 0 of 3" in caplog.text


def test_model_that_is_quantised_already(quantized, tmp_path):
    folder, _, _ = quantized
    with pytest.raises(WeightsError, match="quantised already"):
        run(folder / "model", tmp_path, settings())


@pytest.mark.parametrize("name", ["model.pdmodel", "model.pdiparams"])
def test_damaged_model(small_model, tmp_path, name):
    folder = tmp_path / "damaged"
    shutil.copytree(small_model, folder)
    (folder / name).write_bytes(b"nothing that Paddle wrote")
    with pytest.raises(WeightsError, match=name):
        run(folder, tmp_path, settings())


# The largest error of an output against FP32's, as a part of its absmax: 5 levels of 127 are 0.04. Weights of one layer
# a tenth too large make it 0.09 to 0.12, rolled channels 0.4 to 2, a hidden layer without its bias 0.4 to 0.8 (tried
# on this network, on the output that suffers more). KL cuts rare large values on purpose: a quarter of the largest.
@pytest.mark.parametrize(
    ("ranges", "most"),
    [("min_max", 0.05), ("percentile", 0.05), ("mse", 0.05), ("kl", 0.3), ("histogram", 0.05)],
)
def test_ptq_calibrates_evaluates_and_writes(small_model, tmp_path, ranges, most, caplog):
    wanted = replace(settings(), quantization=QuantizationSettings(method="ptq", ranges=ranges))
    recorder = Recorder([0.3, 0.2])
    result = run(small_model, tmp_path, wanted, evaluate=recorder)
    assert (result.metrics["mAP"], result.metrics["every_tensor_mAP"]) == (0.3, 0.2)
    assert result.metrics["calibration_images"] == 4  # two batches of two
    assert "calibrated on 4 images only" in caplog.text
    assert "qat.csv" not in result.files and "quantization.json" in result.files
    exact = predictions(small_model, next(batches(100)))
    for fp32, int8, npu in zip(exact, *recorder.seen):
        assert 0 < np.abs(int8 - fp32).max() < most * np.abs(fp32).max()
        assert 0 < np.abs(npu - fp32).max() < most * np.abs(fp32).max()


def test_an_image_that_is_not_finite_is_named(small_model, tmp_path):
    def broken(start):
        for number, feed in enumerate(batches(start)):
            if number == 1:
                feed["image"][1, 0, 0, 0] = np.inf
            yield feed

    places = small_model, tmp_path / "model", tmp_path / "work"
    with pytest.raises(DataError, match=r"is not finite for calibration image 4 \(in the order"):
        quantize(
            *places,
            broken,
            replace(settings(), quantization=QuantizationSettings(method="ptq")),
            config=CONFIG,
        )
