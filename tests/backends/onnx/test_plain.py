"""The plain ONNX for other compilers: its integers are the simulation's, its form is what they take."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import numpy_helper

from picoquant.backends.onnx.batch import with_batch
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.plain import NUMBERS, make_plain_onnx
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.source import Source
from picoquant.config.sections import QDQ_NUMBERS
from picoquant.data.images import read_image
from picoquant.errors import ToolError
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.targets.integer_rules import Arithmetic, Rules
from tests.command_line import picoquant, with_sets

S_NPU, WITH_HARD_SWISH = "picodet_s_416_coco_npu.yml", "picodet_xs_320_coco_lcnet.yml"
FLOAT = {
    "Conv", "Relu", "Clip", "Add", "Mul", "Sigmoid", "HardSigmoid", "GlobalAveragePool", "AveragePool", "Concat",
    "Resize", "Reshape", "Transpose", "Slice", "MaxPool",
}  # fmt: skip


def simulation(model, numbers):
    return NpuSimulation(model, Rules(Arithmetic(numbers, "half_to_even", None)))


def image(size, seed=0):
    return {"image": np.random.default_rng(seed).random((1, 3, size, size), np.float32)}


def made_by(nodes, name):
    """What computes a tensor, before it is rounded where it is an output."""
    return nodes.get(f"{name}.float", nodes[name]).op_type


def levels_apart(model, numbers, path, feed):
    """Shares of the outputs' values that are a level, and more, from the simulation's."""
    simulated = simulation(model, numbers)
    scales = [simulated.params[name].scale for name, _ in simulated.outputs]
    pairs = zip(simulated(feed), OnnxPredictor(path, threads=1)(feed), scales)
    apart = np.concatenate([np.rint(np.abs(one - two) / scale).ravel() for one, two, scale in pairs])
    return (apart > 0).mean(), (apart > 1).mean()


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("config", [S_NPU, WITH_HARD_SWISH])
def test_form_and_integers(models, config, numbers, tmp_path):
    model = models(config)
    network = Source(model).network
    made = make_plain_onnx(network, numbers)
    assert [(item.domain, item.version) for item in made.opset_import] == [("", 13)]
    nodes = {name: node for node in made.graph.node for name in node.output}
    kinds = {node.op_type for node in made.graph.node}
    assert kinds - FLOAT == {"QuantizeLinear", "DequantizeLinear"}
    stored = {item.name: numpy_helper.to_array(item) for item in made.graph.initializer}
    quantising = [node for node in nodes.values() if node.op_type == "QuantizeLinear"]
    rounded = {node.input[0].removesuffix(".float"): node for node in quantising}
    here = {name.removesuffix(".float") for name in nodes} | {"image"}
    assert {name for name in network.held if name in here} == set(rounded)
    for name, node in rounded.items():
        scale, zero = (stored[part] for part in node.input[1:])
        assert scale == np.float32(network.ranges[name] / 127)
        of_sigmoid = name in nodes and made_by(nodes, name) == "Sigmoid"  # NPUs' uint8 for it begins at 0
        assert zero == (128 if numbers == "uint8" and not of_sigmoid else 0) and zero.dtype == numbers
    integers = [stored[node.input[0]] for node in nodes.values() if node.input and node.input[0] in stored]
    for operator in network.operators:
        assert any(np.array_equal(value, operator.integers) for value in integers if value.dtype == np.int8)
        biases = [value for value in integers if value.dtype == np.int32]
        assert operator.bias is None or any(np.array_equal(value, operator.bias_integers) for value in biases)
    write_onnx(made, tmp_path / "plain.onnx")
    # Random weights have results in the middle between two levels, which float32 and float64 may round otherwise.
    some, more = levels_apart(model, numbers, tmp_path / "plain.onnx", image(64))
    assert some < 0.2 and more < 0.05


def test_limited_to_paddles_levels_it_is_the_packaged_onnx(small, tmp_path):
    """The small network's signed tensors reach the lowest integer, which Paddle does not use."""
    network = Source(small).network
    files = {name: tmp_path / f"{name}.onnx" for name in ("packaged", "limited", "plain")}
    write_onnx(make_onnx(network), files["packaged"])
    write_onnx(make_plain_onnx(network, limited=True), files["limited"])
    write_onnx(make_plain_onnx(network), files["plain"])
    outputs = {name: OnnxPredictor(path, threads=1)(image(32)) for name, path in files.items()}
    for packaged, limited in zip(outputs["packaged"], outputs["limited"]):
        np.testing.assert_allclose(packaged, limited, atol=1e-5 * np.abs(packaged).max())


@pytest.mark.parametrize("batch", [3, "dynamic"])
def test_any_batch(models, batch, tmp_path):
    made = make_plain_onnx(Source(models()).network)
    write_onnx(made, tmp_path / "one.onnx")
    write_onnx(with_batch(made, batch), tmp_path / "several.onnx")
    feed = {"image": np.concatenate([image(64, seed)["image"] for seed in range(3)])}
    together = OnnxPredictor(tmp_path / "several.onnx", threads=1)
    assert together.inputs[0][1][0] == (-1 if batch == "dynamic" else 3)
    for one, two in zip(OnnxPredictor(tmp_path / "one.onnx", threads=1)(feed), together(feed)):
        np.testing.assert_array_equal(one, two)


def test_a_layer_in_float_stays_so(models, tmp_path):
    network = Source(models()).network
    kept = network.operators[3]
    less = replace(network, operators=tuple(one for one in network.operators if one is not kept))
    stored = {item.name: numpy_helper.to_array(item) for item in make_plain_onnx(less).graph.initializer}
    assert stored[kept.weight].dtype == np.float32
    assert sum(name.endswith(".weight.levels") for name in stored) == len(less.operators)


def test_a_missing_weight_is_named(models):
    network = Source(models()).network
    first = network.operators[0]
    with pytest.raises(ToolError, match=rf"made 1 nodes with weight {first.weight} of the 2 operators"):
        make_plain_onnx(replace(network, operators=(first, *network.operators)))


def test_the_packages_choice_is_what_the_writer_takes():
    assert QDQ_NUMBERS == NUMBERS


@pytest.mark.slow
def test_bit_for_bit_on_bccd(shared, tmp_path):
    """All 87 images of bccd val, both kinds of integers."""
    data = shared / "datasets/bccd"
    sets = [f"Global.weights={shared}/weights/picodet_s_npu_bccd.pdparams", "Quantize.method=ptq"]
    sets += ["Global.input_size=[320,320]", "Global.Evaluation=false", "worker_num=0"]
    for section, name in (("TrainDataset", "train"), ("EvalDataset", "val")):
        sets += [f"{section}.dataset_dir={data}", f"{section}.image_dir=JPEGImages"]
        sets.append(f"{section}.anno_path=instances_{name}.json")
    arguments = ("-c", "picodet_s_qat_dis.yaml", "--save-dir", tmp_path, "--until", "quantize")
    done = picoquant("run", *arguments, *with_sets(sets), timeout=1800)
    assert done.returncode == 0, done.stderr
    model = ModelFolder.open(tmp_path / "quantize")
    images = json.loads((data / "instances_val.json").read_text())["images"]
    assert len(images) == 87
    for numbers in NUMBERS:
        write_onnx(make_plain_onnx(Source(model).network, numbers), tmp_path / "plain.onnx")
        predict, simulated = OnnxPredictor(tmp_path / "plain.onnx", threads=1), simulation(model, numbers)
        for item in images:
            pixels = read_image(data / "JPEGImages" / item["file_name"])
            feed = {"image": feed_of_image(pixels, model.config)["image"]}
            for one, two in zip(simulated(feed), predict(feed)):
                np.testing.assert_array_equal(one, two)
