"""Batch-norm folded into convolutions: known numbers, every form of bias, real detectors."""

from __future__ import annotations

import shutil

import numpy as np
import paddle
import pytest
from paddle.base.proto import framework_pb2

from picoquant import build_detector
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.export.paddle_export import export_model
from picoquant.paddle_program.batch_norm_folding import fold_float, fold_folder
from picoquant.paddle_program.graph import read_graph
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import program_facts
from tests.networks.paddle_static import read_variable, static_session, write_variable

EPSILON = 1e-5


class Net:
    """A program on `image [N, 2, 3, 3]`, built operator by operator."""

    def __init__(self, scope):
        self.scope, self.program = scope, paddle.static.Program()
        self.block = self.program.global_block()
        with paddle.static.program_guard(self.program):
            self.image = paddle.static.data("image", [-1, 2, 3, 3], "float32")

    def stored(self, name, value):
        value = np.asarray(value, np.float32)
        write_variable(self.scope, name, value)
        return self.block.create_var(name=name, shape=value.shape, dtype="float32", persistable=True)

    def op(self, kind, inputs, output, slot="Out", more=None, **attrs):
        result = self.block.create_var(name=output, dtype="float32")
        outputs = {slot: result, **(more or {})}
        self.block.append_op(type=kind, inputs=inputs, outputs=outputs, attrs=attrs)
        return result

    def unused(self, name):
        return self.block.create_var(name=name, dtype="float32")

    def conv(self, x, weight, output):
        attrs = {"strides": [1, 1], "paddings": [0, 0], "dilations": [1, 1], "groups": 1}
        attrs["data_format"] = "NCHW"
        return self.op("conv2d", {"Input": x, "Filter": weight}, output, "Output", **attrs)

    def norm(self, x, name, output, is_test=True, **values):
        known = {"Scale": [2.0, 3.0], "Bias": [0.5, 0.25], "Mean": [1.0, -1.0], "Variance": [3.0, 8.0]}
        inputs = {slot: self.stored(f"{name}.{slot}", value) for slot, value in {**known, **values}.items()}
        more = {"MeanOut": inputs["Mean"], "VarianceOut": inputs["Variance"]}
        more.update({slot: self.unused(f"{name}.{slot}") for slot in ("SavedMean", "SavedVariance")})
        attrs = {"epsilon": EPSILON, "is_test": is_test, "data_layout": "NCHW"}
        return self.op("batch_norm", {"X": x, **inputs}, output, "Y", more, **attrs)

    def fold(self):
        """Fold the program as it is now; the report is returned, and what is left is in `message` and `values`."""
        self.message = framework_pb2.ProgramDesc.FromString(self.program.desc.serialize_to_string())
        names = [var.name for var in self.message.blocks[0].vars if var.persistable]
        self.values = {name: read_variable(self.scope, name) for name in names}
        return fold_float(self.message, self.values)

    def run(self, *names):
        """Values of tensors: of the folded program where there is one."""
        image = np.random.RandomState(0).randn(2, 2, 3, 3).astype("float32")
        program, scope = self.program, self.scope
        if hasattr(self, "message"):
            program = paddle.static.Program.parse_from_string(self.message.SerializeToString())
            scope = paddle.static.Scope()
            for name, value in self.values.items():
                write_variable(scope, name, value)
        executor = paddle.static.Executor(paddle.CPUPlace())
        return executor.run(program, feed={"image": image}, fetch_list=list(names), scope=scope)

    @property
    def kinds(self):
        return [op.type for op in self.message.blocks[0].ops if op.type not in ("feed", "fetch")]


@pytest.fixture
def net():
    with static_session() as scope:
        yield Net(scope)


def test_known_numbers(net):
    weight = net.stored("w", np.ones((2, 2, 1, 1)))
    net.norm(net.conv(net.image, weight, "raw"), "n", "out")
    before = net.run("out")[0]
    report = net.fold()
    assert (report.folded, report.kept) == (("out",), {})
    assert net.kinds == ["conv2d", "elementwise_add"]
    # factor = scale / sqrt(variance + epsilon); bias = shift - mean * factor
    factors = np.array([2 / np.sqrt(3 + EPSILON), 3 / np.sqrt(8 + EPSILON)])
    np.testing.assert_allclose(net.values["w"][:, :, 0, 0], np.stack([factors] * 2, 1), rtol=1e-6)
    bias = net.values["out.bias"]
    np.testing.assert_allclose(bias, [0.5 - factors[0], 0.25 + factors[1]], rtol=1e-6)
    np.testing.assert_allclose(net.run("out")[0], before, atol=1e-6)
    assert read_graph(net.message).operators[0].results == ("out.unbiased",)
    assert set(net.values) == {"w", "out.bias"}


@pytest.mark.parametrize("form", ["[C] at axis 1", "[1, C, 1, 1]", "reshaped"])
def test_a_bias_before_the_batch_norm_goes_into_the_new_one(net, form):
    weight = net.stored("w", np.random.RandomState(1).randn(2, 2, 1, 1))
    value = np.array([4.0, 7.0])
    bias = net.stored("b", value.reshape(1, 2, 1, 1) if form == "[1, C, 1, 1]" else value)
    if form == "reshaped":
        bias = net.op(
            "reshape2", {"X": bias}, "b.reshaped", more={"XShape": net.unused("s")}, shape=[1, 2, 1, 1]
        )
    axis = 1 if form == "[C] at axis 1" else -1
    added = net.op(
        "elementwise_add", {"X": net.conv(net.image, weight, "raw"), "Y": bias}, "added", axis=axis
    )
    net.norm(added, "n", "out")
    before = net.run("out")[0]
    net.fold()
    assert net.kinds == ["conv2d", "elementwise_add"]
    np.testing.assert_allclose(net.run("out")[0], before, atol=1e-5)


def test_a_shared_weight_is_folded_for_each_user(net):
    weight = net.stored("w", np.random.RandomState(1).randn(2, 2, 1, 1))
    net.norm(net.conv(net.image, weight, "raw1"), "n1", "out1")
    net.norm(net.conv(net.image, weight, "raw2"), "n2", "out2", Scale=[-1.0, 5.0])
    before = net.run("out1", "out2")
    assert net.fold().folded == ("out1", "out2")
    for value, expected in zip(net.run("out1", "out2"), before):
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_what_cannot_be_folded_stays_and_is_named(net):
    weights = [net.stored(f"w{i}", np.random.RandomState(i).randn(2, 2, 1, 1)) for i in range(2)]
    used_twice = net.conv(net.image, weights[0], "used_twice")
    net.norm(used_twice, "n1", "out1")
    net.op("relu", {"X": used_twice}, "out2")
    net.norm(net.image, "n2", "out3")
    net.norm(net.conv(net.image, weights[1], "raw"), "n3", "out4", is_test=False)
    before = {name: read_variable(net.scope, name) for name in ("w0", "w1")}
    report = net.fold()
    assert report.folded == ()
    assert "something else uses" in report.kept["out1"]
    assert "no convolution" in report.kept["out3"]
    assert "its batch" in report.kept["out4"]
    for name, value in before.items():
        np.testing.assert_array_equal(net.values[name], value)


@pytest.mark.parametrize(
    ("name", "weights", "classes", "norms"),
    [
        ("picodet_s_416_coco_npu", "picodet_s_npu_bccd.pdparams", 3, 106),
        ("picodet_s_320_coco", "picodet_s_320_coco.pdparams", 80, 103),
    ],
)
def test_trained_detectors_compute_the_same(shared, tmp_path, name, weights, classes, norms):
    from picoquant.detector.weights import load_weights

    detector = build_detector(name, num_classes=classes)
    load_weights(detector, shared / "weights" / weights)
    config = InferConfig((128, 128), tuple(f"class {i}" for i in range(classes)))
    export_model(detector, tmp_path / "fp32", "raw", (128, 128), config)
    shutil.copytree(tmp_path / "fp32", tmp_path / "folded")
    report = fold_folder(tmp_path / "folded")
    assert len(report.folded) == norms and not report.kept
    facts = program_facts(tmp_path / "folded" / "model.pdmodel")
    assert "batch_norm" not in facts.operators
    feed = {"image": np.random.RandomState(0).rand(1, 3, 128, 128).astype("float32")}
    outputs = [open_predictor(ModelFolder.open(tmp_path / part))(feed) for part in ("fp32", "folded")]
    for before, after in zip(*outputs):
        np.testing.assert_allclose(after, before, atol=1e-4)
