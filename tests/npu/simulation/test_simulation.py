"""Whole networks in a target's integers, against the float program and against Paddle's INT8."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import ToolError
from picoquant.npu.simulation import steps
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.runtimes.backends import simulating
from picoquant.runtimes.model import model_of_folder
from picoquant.targets.integer_rules import Arithmetic, MultiplierRule, Rules
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported, quick_int8
from tests.networks.small_int8 import write_small

RULES = Rules(Arithmetic("uint8", "half_to_even", MultiplierRule(31)))
SIZE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """PicoDet-S-NPU of random weights with batch-norms and reshaped biases, as PaddleSlim leaves them."""
    folder = tmp_path_factory.mktemp("npu")
    return quick_int8(exported("picodet_s_416_coco_npu.yml", folder / "fp32"), folder / "int8")


@pytest.fixture(scope="module")
def image():
    return {"image": np.random.RandomState(0).rand(1, 3, SIZE, SIZE).astype(np.float32)}


def decibel(found, wanted):
    return 10 * np.log10((wanted**2).sum() / max(((found - wanted) ** 2).sum(), 1e-30))


def test_each_convolution_is_the_float_one_of_its_own_input(model, image):
    """Convolution, bias and batch-norm as the program has them, in float64, of the levels that went in: the
    rounded result is the simulation's but next to halves."""
    from picoquant.int8.paddle.reader import take_apart
    from picoquant.paddle_program.edit import batch_of_one
    from picoquant.paddle_program.graph import read_graph
    from picoquant.paddle_program.params import read_params

    program = batch_of_one(model.model, (SIZE, SIZE))
    _, operators, _ = take_apart(program, read_params(program, model.params), model.model)
    values = {**read_params(program, model.params), **{op.weight: op.value for op in operators.values()}}
    graph = read_graph(take_apart(program, values, model.model)[0])
    simulation = NpuSimulation(model, RULES)
    held = simulation.run_steps(image, keep=True)
    checked = different = total = 0
    for conv in operators.values():
        how = simulation.params[conv.activation]
        op = graph.producer(conv.output)
        source = held[conv.activation].astype(np.float64) * how.scale
        result, name = (
            float_convolution(source, values[conv.weight].astype(np.float64), op.attributes),
            op.name,
        )
        while name not in held:
            op = graph.users(name)[0]
            names, name = dict(op.inputs), op.name
            if op.op_type == "batch_norm":
                gamma, beta, mean, variance = (
                    values[names[slot]].reshape(1, -1, 1, 1)
                    for slot in ("Scale0", "Bias0", "Mean0", "Variance0")
                )
                result = (result - mean) / np.sqrt(variance + op.attributes["epsilon"]) * gamma + beta
            elif op.op_type == "elementwise_add":  # its bias is a stored one behind a reshape
                bias = graph.producer(names["Y0"]).inputs[0][1]
                result = result + values[bias].reshape(1, -1, 1, 1)
            else:
                result = np.clip(result, 0, {"relu6": 6.0, "relu": np.inf}[op.op_type])
        how = simulation.params[name]
        expected = np.clip(np.rint(result / how.scale), how.low, how.high)
        off = np.abs(held[name] - expected)
        assert off.max() <= 1, name
        different, total, checked = different + np.count_nonzero(off), total + off.size, checked + 1
    assert checked == 122 and different < total / 500


def float_convolution(source, weight, attributes):
    top, left = attributes["paddings"][0], attributes["paddings"][-1]
    padded = np.pad(source, ((0, 0), (0, 0), (top, top), (left, left)))
    step, groups, kernel = attributes["strides"][0], attributes["groups"], weight.shape[2]
    views = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[
        :, :, ::step, ::step
    ]
    parts = [
        np.einsum("nchwij,ocij->nohw", inputs, part)
        for inputs, part in zip(np.split(views, groups, axis=1), np.split(weight, groups))
    ]
    return np.concatenate(parts, axis=1)


def test_outputs_are_near_paddles_int8(model, image):
    """Paddle rounds the inputs of convolutions only, the target every tensor."""
    simulation = NpuSimulation(model, load_target("rv1126").integer_rules)
    found, wanted = simulation(image), open_predictor(model, threads=1)(image)
    assert [value.shape for value in found] == [value.shape for value in wanted]
    assert [shape for _, shape in simulation.outputs] == [(-1, *value.shape[1:]) for value in wanted]
    assert np.median([decibel(*pair) for pair in zip(found, wanted)]) > 30
    assert min(decibel(*pair) for pair in zip(found, wanted)) > 15


def test_a_batch_is_its_images(model, image):
    simulation = NpuSimulation(model, RULES)
    other = {"image": image["image"][:, :, ::-1].copy()}
    both = simulation({"image": np.concatenate([image["image"], other["image"]])})
    for together, first, second in zip(both, simulation(image), simulation(other)):
        assert (together == np.concatenate([first, second])).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["picodet_s_320_coco.yml", "picodet_s_320_coco_lcnet.yml", "picodet_shufflenetv2_1x_416_coco.yml"]
)
def test_other_families(name, image, tmp_path):
    """Splits, channel shuffles, hard-swish, squeeze-and-excitation, max pooling."""
    made = quick_int8(exported(name, tmp_path / "fp32"), tmp_path / "int8")
    found, wanted = NpuSimulation(made, RULES)(image), open_predictor(made, threads=1)(image)
    assert min(decibel(*pair) for pair in zip(found, wanted)) > 20


def test_the_rules_decide(model, image):
    """Rounding and the multiplier's bits change single levels."""
    exact = NpuSimulation(model, RULES)
    half, coarse = (
        NpuSimulation(model, Rules(Arithmetic("uint8", *rules)))
        for rules in (("half_away", MultiplierRule(31)), ("half_to_even", MultiplierRule(15)))
    )
    relu = next(name for name in exact.params if name.startswith("relu6"))
    assert (exact.params[relu].zero_point, exact.params[relu].high) == (128, 127)
    first = exact.run_steps(image, keep=True)[relu]
    for other in (half, coarse):
        off = np.abs(other.run_steps(image, keep=True)[relu] - first)
        assert off.max() <= 1 and np.count_nonzero(off) < off.size / 20


@pytest.mark.slow
def test_per_tensor_weights(tmp_path, image):
    made = quick_int8(
        exported("picodet_s_416_coco_npu.yml", tmp_path / "fp32"),
        tmp_path / "int8",
        weight_quantize_type="abs_max",
    )
    found, wanted = NpuSimulation(made, RULES)(image), open_predictor(made, threads=1)(image)
    assert np.median([decibel(*pair) for pair in zip(found, wanted)]) > 20


def test_what_cannot_be_simulated_says_why(tmp_path, model):
    (tmp_path / "small").mkdir()
    small = write_small(tmp_path / "small")
    with pytest.raises(ToolError, match="tensor .* has no range, without which no NPU computes it: quantise"):
        NpuSimulation(small, RULES)
    none = simulating(model_of_folder(model), load_target("arm_cpu"))
    with pytest.raises(ToolError, match="arm_cpu has no integer rules to simulate"), none:
        pass


@pytest.mark.slow
def test_real_model_on_real_images(shared, tmp_path):
    """PicoDet-S-NPU trained on blood cells: logits as near to Paddle's INT8 as rounding every tensor lets them be."""
    import picoquant
    from picoquant.data.images import read_image
    from picoquant.detector.weights import load_weights
    from picoquant.export.paddle_export import export_model
    from picoquant.paddle_program.infer_config import InferConfig

    network = picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    load_weights(network, shared / "weights" / "picodet_s_npu_bccd.pdparams")
    network.eval()
    config = InferConfig((320, 320), ("RBC", "WBC", "Platelets"), strides=tuple(network.strides))
    float_model = export_model(network, tmp_path / "fp32", "raw", (320, 320), config)
    files = sorted((shared / "datasets" / "bccd" / "JPEGImages").glob("*.jpg"))[:6]
    images = np.stack([pixels(read_image(file)) for file in files])
    made = quick_int8(float_model, tmp_path / "int8", images=images[2:])
    feed = {"image": images[:2]}
    found, wanted = NpuSimulation(made, RULES)(feed), open_predictor(made, threads=1)(feed)
    names = ["class"] * 4 + ["alignment"] * 4 + ["distance"] * 4
    quality = {name: [] for name in names}
    for name, *pair in zip(names, found, wanted):
        quality[name].append(decibel(*pair))
    assert min(quality["class"]) > 20 and np.median(quality["distance"]) > 12


def pixels(image):
    import cv2

    return cv2.resize(image, (320, 320)).astype(np.float32).transpose(2, 0, 1) / 255


def test_on_shaders_the_multiplier_of_the_cores_has_no_part(tmp_path):
    """With a scale for each channel chips of 16 and 31 bits compute the same, convolutions with one result too."""
    from picoquant.paddle_program.batch_norm_folding import fold_folder

    model = exported("picodet_s_416_coco_npu.yml", tmp_path / "fp32")
    fold_folder(model.path)
    int8 = quick_int8(model, tmp_path / "int8")
    one, other = (NpuSimulation(int8, load_target(name).integer_rules) for name in ("a311d", "imx8mp"))
    assert one.per_channel and {len(own.scales) for own in one.graph.quantised.values()} > {1}
    for name, own in one.graph.quantised.items():
        if len(own.scales) > 1:
            continue
        layer = one.graph.network.layers[name]
        source, channels = layer.conv.input("Input0"), own.integers.shape[1]
        low, high = one.params[source].low, one.params[source].high
        levels = np.random.RandomState(0).randint(low, high + 1, (1, channels, 150, 150)).astype(np.int16)
        found, wanted = (
            steps._convolution(layer, each.graph, each.rules, each.params[source], each.params[layer.output])(
                [levels]
            )[0]
            for each in (one, other)
        )
        np.testing.assert_array_equal(found, wanted, err_msg=name)
