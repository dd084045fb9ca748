"""The analysis of small networks whose weak place is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from picoquant.errors import WeightsError
from picoquant.int8.build import Int8Source, build_network
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.paddle.writer import write_lite_model
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.infer_config import write_infer_config
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.analysis.accuracy import outputs_alone, with_accuracy
from picoquant.quantization.analysis.analyse import FORMS, analyse, with_min_max_ranges
from picoquant.quantization.analysis.network import comparable, load_float, load_int8
from picoquant.quantization.analysis.noise import Noise
from picoquant.quantization.analysis.report import as_dict, text_table, write_picture, write_report
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.score import Score
from tests.networks.small_net import CONFIG, batches

QUANT = QuantAwareSettings()


def feeds(count=2):
    source = batches(0)
    return [{"image": next(source)["image"]} for _ in range(count)]


CONVOLUTIONS = Convolutions(onednn=True)


@pytest.fixture
def network(small_model, tmp_path):
    folder = ModelFolder.open(small_model, config=CONFIG)
    loaded = load_float(folder, tmp_path / "scratch", CONVOLUTIONS, QUANT)
    return with_min_max_ranges(loaded, feeds())


def test_layers_are_convolutions_with_what_follows(network):
    assert [layer.operator.op_type for layer in network.layers] == ["conv2d", "depthwise_conv2d"] + [
        "conv2d"
    ] * 3
    assert [layer.weight_shape for layer in network.layers[:2]] == [(8, 3, 3, 3), (8, 1, 3, 3)]
    # Bias and ReLU6 are inside; the last two have a bias only.
    graph = network.model.graph()
    kinds = [[graph.producer(name).op_type for name in layer.chain] for layer in network.layers]
    assert kinds[0][1:] == ["elementwise_add", "relu6"] and kinds[4][1:] == ["elementwise_add"]
    assert len({layer.name for layer in network.layers}) == 5


def test_every_layer_alone_is_what_the_whole_network_gives(network):
    """Two ways: from the layer on with a moved result, and a network of its own for the layer."""
    images = feeds()
    found = analyse(network, images)
    names = network.model.outputs
    exact = network.simulation({})
    for cost in found.layers:
        noise = {name: Noise() for name in names}
        for feed in images:
            should = exact(feed)
            for name, right, value in zip(names, should, outputs_alone(network, cost.layer, feed)):
                noise[name].add(right, value)
        for name in names:
            if noise[name].decibels < 100:
                assert cost.alone["both"][name] == pytest.approx(noise[name].decibels, abs=0.3)
            else:  # a head does not reach the other head's output
                assert cost.alone["both"][name] > 100


def test_the_layer_with_a_useless_range_is_the_worst(small_model, tmp_path):
    plain = load_float(ModelFolder.open(small_model, config=CONFIG), tmp_path / "a", CONVOLUTIONS, QUANT)
    # A head's bias far from its values: with a range of 500 a level is worth more than they are.
    head = plain.layers[3]
    bias = plain.model.graph().producer(head.chain[1]).input("Y0")
    plain.model.write(bias, plain.model.values[bias] + np.array([0, 500]))
    network = with_min_max_ranges(plain, feeds())
    found = analyse(network, feeds())
    assert found.worst_first()[0].layer.name == head.name
    worst = found.worst_first()[0]
    assert worst.worst("activations") == pytest.approx(worst.worst(), abs=1)
    assert worst.worst("weights") > worst.worst() + 10


def test_weights_alone_and_activations_alone_are_apart(network):
    found = analyse(network, feeds())
    for cost in found.layers:
        both, weights, activations = (cost.worst(form) for form in FORMS)
        assert both <= min(weights, activations) + 3  # together they are at least about as bad as one
        assert weights < 90 and activations < 90


def test_a_narrow_range_saturates(network):
    name = network.layers[2].output
    assert all(tensor.saturated == 0 for tensor in analyse(network, feeds(1)).tensors)
    narrow = replace(network, ranges={**network.ranges, name: QuantParams.symmetric(1e-3)})
    tensor = next(tensor for tensor in analyse(narrow, feeds(1)).tensors if tensor.name == name)
    assert tensor.saturated > 0.2  # whatever ReLU6 lets through
    assert tensor.rounding < 1


def test_an_int8_model_is_analysed_with_its_own_ranges(network, small_model, tmp_path):
    folder = tmp_path / "folded"
    folder.mkdir()
    network.model.save(folder)
    ranges = {name: params.absmax for name, params in network.ranges.items()}
    ranges[network.layers[0].output] /= 4
    operators = quantizable_operators(network.model, QUANT)
    weights = {o.weight: network.model.values[o.weight] for o in operators}
    write_lite_model(build_network(Int8Source(folder, weights, ranges, operators, QUANT)), tmp_path / "int8")
    model = ModelFolder.open(tmp_path / "int8", config=CONFIG)
    int8 = load_int8(model, CONVOLUTIONS)
    found = analyse(int8, feeds())
    assert (found.kind, found.reference) == ("int8", "own weights")
    clipped = next(t for t in found.tensors if t.name == network.layers[0].output)
    assert clipped.limits.absmax == pytest.approx(ranges[clipped.name], rel=1e-5)
    assert clipped.saturated > 0 and all(t.saturated == 0 for t in found.tensors[:1])
    # It is the first layer's result and the second one's input: nothing is worse than these two.
    assert {cost.layer.index for cost in found.worst_first()[:2]} == {0, 1}
    for mine, float_layer in zip(int8.layers, network.layers):
        # A weight moved by up to half a level is about as far off as a rounded one.
        rounded = decibels(weights[float_layer.operator.weight], network.rounded[float_layer.name])
        own = weights[float_layer.operator.weight]
        assert decibels(own, int8.rounded[mine.name]) == pytest.approx(rounded - 3, abs=3)


def decibels(exact, found):
    noise = Noise()
    noise.add(exact, found)
    return noise.decibels


def test_a_float_model_is_no_int8_model(small_model, tmp_path):
    with pytest.raises(WeightsError, match="float model"):
        load_int8(ModelFolder.open(small_model, config=CONFIG), CONVOLUTIONS)


def test_accuracy_is_asked_for_the_worst_layers_only(network):
    found = analyse(network, feeds(1))
    called = []

    def evaluate(predict):
        called.append(float(np.mean(predict(feeds(1)[0])[0])))
        return Score(0.5, 1.0 - 0.25 * (len(called) > 1))

    measured = with_accuracy(found, network, evaluate, 7, 2)
    assert len(called) == 4 and len({round(value, 7) for value in called}) > 1
    with_map = [cost.layer.name for cost in measured.layers if cost.score_alone == Score(0.5, 0.75)]
    assert sorted(with_map) == sorted(cost.layer.name for cost in found.worst_first()[:2])
    assert measured.accuracy == {"float": 0.5, "int8": 0.5, "fidelity": 0.75, "images": 7}
    table = text_table(measured, 3)
    assert "mAP of 7 images: float 0.5000, every tensor in INT8 0.5000, fidelity 0.7500" in table
    assert table.splitlines()[0].split()[-2:] == ["mAP", "fidelity"]
    assert table.splitlines()[1].split()[-2:] == ["0.5000", "0.7500"]


def test_the_files_hold_every_layer_and_tensor(network, tmp_path):
    found = analyse(network, feeds(1))
    write_report(found, tmp_path)
    write_picture(found, tmp_path / "a.png")
    write_picture(found, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    content = json.loads((tmp_path / "analysis.json").read_text())
    assert content == json.loads(json.dumps(as_dict(found)))
    alone = [row["alone_db"] for row in content["layers"]]
    assert alone == sorted(alone) and len(alone) == 5
    assert len((tmp_path / "analysis.csv").read_text().splitlines()) == 6
    assert len((tmp_path / "tensors.csv").read_text().splitlines()) == 1 + len(network.tensors.names)
    lines = text_table(found, 2).splitlines()
    assert len(lines) == 4 and content["layers"][0]["layer"] in lines[1]


def test_a_programs_model_with_suppression_ends_before_it(tmp_path):
    from picoquant import build_detector
    from picoquant.export.paddle_export import export_model
    from picoquant.paddle_program.infer_config import InferConfig

    config = InferConfig((64, 64), ("ball", "box"))
    export_model(build_detector("picodet_s_416_coco_npu", 2), tmp_path / "m", "detections", (64, 64), config)
    write_infer_config(config, tmp_path / "m")
    loaded = load_float(ModelFolder.open(tmp_path / "m"), tmp_path / "s", CONVOLUTIONS, QUANT)
    kinds = {op.type for op in loaded.model.operators}
    assert "multiclass_nms3" not in kinds and len(loaded.model.outputs) == 2
    assert ProgramModel.load(tmp_path / "s").inputs == ("image", "scale_factor")


def test_a_model_with_an_unknown_operator_ends_before_it(small_model):
    model = ProgramModel.load(small_model)
    first, last = model.outputs
    op = model.producer(last)
    model.add_tensor("unknown", op.inputs[0])
    model.insert(model.index(op), "cumsum", {"X": [op.inputs[0]]}, {"Out": ["unknown"]}, {"axis": 1})
    assert comparable(model) is model  # nothing needs it
    op.rename_input(op.inputs[0], "unknown")
    cut = comparable(model)
    assert [model.producer(name).type for name in cut.outputs] == ["conv2d"] * 2
    assert "cumsum" not in {op.type for op in cut.operators} and cut.inputs == ("image",)
    assert len(model.outputs) == 2 and first in model.outputs
