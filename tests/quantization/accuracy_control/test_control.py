"""The fewest layers stay in float, the worst first; what the settings name stays in float."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import ConfigError
from picoquant.export.paddle_export import write_layer
from picoquant.int8.completeness import check_int8_model
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program
from picoquant.quantization.quantize import quantize
from picoquant.quantization.score import Score
from picoquant.quantization.settings import QuantizationSettings
from picoquant.storage.checkpoints import Checkpoints
from tests.networks.small_net import CONFIG, SIZE, Small, batches, settings

# Nothing that would mend a bad layer, and one range for a whole weight.
PLAIN = {"cross_layer_equalisation": False, "bias_correction": False}
PER_TENSOR = {"weight_quantize_type": "abs_max"}


@pytest.fixture(scope="module")
def bad_layer(tmp_path_factory):
    """The small network; one channel of its second layer, `conv2d_1`, has weights 2000 times the others'."""
    folder = tmp_path_factory.mktemp("bad")
    with paddle.utils.unique_name.guard():
        network = Small()
        network.eval()
        weight = network.body[3].weight
        value = weight.numpy()
        value[0] *= 2000
        weight.set_value(value)
        spec = [paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32", "image")]
        write_layer(network, spec, folder)
    return folder


def likeness_to(folder):
    """In place of a mAP: 1 less the outputs' error relative to the float model's, at least 0."""
    feed = next(batches(100))
    image = {"image": feed["image"]}
    exact = open_predictor(ModelFolder.open(folder, config=CONFIG))(image)

    def score(predict):
        found = predict(image)
        error = sum(((a - b) ** 2).sum() for a, b in zip(exact, found)) / sum((a**2).sum() for a in exact)
        return Score(max(0.0, 1.0 - float(np.sqrt(error))))

    return score


def run(model, folder, evaluate=None, quant=None, pieces=None, **own):
    own = {"method": "ptq", **PLAIN, **own}
    chosen = replace(settings(1, quant=quant or {}, eval_iter=1), quantization=QuantizationSettings(**own))
    result = quantize(
        model, folder / "out", folder / "work", batches, chosen, evaluate, config=CONFIG, pieces=pieces
    )
    return result.metrics, json.loads((folder / "out" / "quantization.json").read_text())


def weights_in_float(out):
    """Results of the convolutions whose weight is in float."""
    check = check_int8_model(out / "model.pdmodel", out / "model.pdiparams")
    return check.float_operators


def test_the_bad_layer_alone_stays_in_float(bad_layer, tmp_path):
    score = likeness_to(bad_layer)
    counted = []

    def pieces(folder):
        counted.append(len(weights_in_float(folder.path)))
        return {"board": 1 + counted[-1]}

    metrics, described = run(bad_layer, tmp_path, score, PER_TENSOR, pieces, max_drop=0.25)
    found = metrics["mixed_precision"]["max_drop"]
    assert [row["layer"] for row in found["layers"]] == ["conv2d_1"]
    row = found["layers"][0]
    assert found["fp32_mAP"] == pytest.approx(1.0, abs=1e-4) and found["reached"]
    assert row["mAP_before"] == found["int8_mAP"] < 0.75 <= row["mAP_after"] == metrics["mAP"]
    assert (found["npu_pieces"], row["npu_pieces"]) == ({"board": 1}, {"board": 2})
    assert (found["int8_runs"], row["int8_runs"]) == (1, 2)
    assert found["trials"] == [[1, row["mAP_after"]]]
    # The files are those of that network.
    out = tmp_path / "out"
    assert weights_in_float(out) == (row["output"],)
    assert score(open_predictor(ModelFolder.open(out, config=CONFIG))).mAP == pytest.approx(metrics["mAP"])
    assert described["mixed_precision"]["max_drop"]["layers"] == [row] and len(described["operators"]) == 4
    assert described["full_check"]["whole"] and described["full_check"]["kept_float"] == [row["output"]]
    assert metrics["fully_quantized"] is False and metrics["quantized_operators"] == 4


def test_nothing_stays_in_float_where_int8_is_good_enough(small_model, tmp_path):
    metrics, _ = run(small_model, tmp_path, likeness_to(small_model), max_drop=0.5)
    found = metrics["mixed_precision"]["max_drop"]
    assert found["layers"] == () and found["trials"] == [] and metrics["fully_quantized"] is True


def test_what_cannot_be_reached_stays_in_int8_and_is_said(small_model, tmp_path, caplog):
    scores = iter([0.5, 0.9, *[0.6] * 9])  # INT8, FP32, trials
    metrics, _ = run(small_model, tmp_path, lambda predict: Score(next(scores)), max_drop=0.25)
    found = metrics["mixed_precision"]["max_drop"]
    assert not found["reached"] and found["layers"] == () and [n for n, _ in found["trials"]] == [1, 2, 4]
    assert "is not reached with all layers but one in float" in caplog.text
    assert metrics["mAP"] == 0.5 and weights_in_float(tmp_path / "out") == ()


@pytest.mark.parametrize("method", ["ptq", "qat"])
def test_named_layers_stay_in_float(small_model, tmp_path, method):
    kept = ["conv2d_1", "conv2d_[23]"]
    changes = {"bias_correction": True} if method == "ptq" else {}
    metrics, _ = run(small_model, tmp_path, method=method, keep_float=kept, **changes)
    rows = metrics["mixed_precision"]["keep_float"]["layers"]
    assert [row["layer"] for row in rows] == ["conv2d_1", "conv2d_2", "conv2d_3"]
    assert weights_in_float(tmp_path / "out") == tuple(row["output"] for row in rows)
    assert metrics["quantized_operators"] == 2 and metrics["fully_quantized"] is False


@pytest.mark.parametrize("changed", [{"bias_correction": True}, {"rounding": "reconstructed"}])
def test_a_layer_in_float_keeps_the_weight_and_bias_it_had(bad_layer, tmp_path, changed):
    """What is done for rounded weights is taken back: what max_drop leaves in float is as without it."""
    found = {}
    for own in ({}, changed):
        folder = tmp_path / str(len(own))
        metrics, _ = run(bad_layer, folder, likeness_to(bad_layer), PER_TENSOR, max_drop=0.06, **own)
        layers = {row["layer"] for row in metrics["mixed_precision"]["max_drop"]["layers"]}
        assert "conv2d_1" in layers and len(layers) < 5
        found[bool(own)] = {
            name: value
            for name, value in files_of(folder / "out").items()
            if name.startswith(("batch_norm_1", "conv2d_1.w_0"))
        }
    assert len(found[True]) > 1 and found[True].keys() == found[False].keys()
    for name, value in found[True].items():
        np.testing.assert_array_equal(value, found[False][name])


@pytest.mark.parametrize("method", ["ptq", "qat"])
def test_a_named_layers_weight_is_the_float_one(small_model, tmp_path, method):
    """PTQ: the folded weight and bias to the last bit, whatever is done to the others. QAT: what training left."""
    own = {"rounding": "reconstructed", "bias_correction": True, "fold_batch_norm": method == "ptq"}
    run(small_model, tmp_path, method=method, keep_float=["conv2d_1"], **own)
    found = files_of(tmp_path / "out")
    if method == "qat":
        expected = Checkpoints(tmp_path / "work/checkpoints").newest().arrays["last"]
        names = ["conv2d_1.w_0"]
        assert not np.array_equal(expected[names[0]], files_of(small_model)[names[0]])  # it was trained
    else:
        shutil.copytree(small_model, tmp_path / "folded")
        fold_folder(tmp_path / "folded")
        expected = files_of(tmp_path / "folded")
        names = ["conv2d_1.w_0", *(name for name in expected if name.startswith("batch_norm_1."))]
        assert len(names) == 2
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name])
    assert (found["conv2d_0.w_0"] == np.rint(found["conv2d_0.w_0"])).all()


def files_of(folder):
    """Stored values of a model folder."""
    return read_params(read_program(folder / "model.pdmodel"), folder / "model.pdiparams")


def test_max_drop_needs_an_evaluation(small_model, tmp_path):
    with pytest.raises(ConfigError, match=r"Quantize\.max_drop needs the mAP.*Global\.Evaluation"):
        run(small_model, tmp_path, max_drop=0.25)


def test_qat_writes_unified_ranges(small_model, tmp_path):
    _, described = run(small_model, tmp_path, method="qat")
    assert described["full_check"]["several_scales"] == []
