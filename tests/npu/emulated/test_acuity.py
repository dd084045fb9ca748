"""acuity asked: what it is handed and gives back, what it refuses, how it ends.

Most tests have a stand-in of acuity's interface that computes nothing. The last one runs acuity, where it is installed.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from picoquant.backends.acuity import toolchain
from picoquant.backends.acuity.form import make_form
from picoquant.backends.base import Machine
from picoquant.backends.own_environment.package import OwnTool
from picoquant.cli.main import cli
from picoquant.commands import doctor
from picoquant.errors import ToolError
from picoquant.npu.emulated.acuity import RULES, AcuityNetwork
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.paddle_program.batch_norm_folding import fold_folder
from tests.networks.quick_int8 import exported, quick_int8
from tests.npu.emulated.conftest import SIZE

IMPORTER = """
import os, signal
import onnx
OPS = {"Conv": "convolution", "Transpose": "permute", "Relu": "relu", "Clip": "relun"}
class Layer:
    def __init__(self, name, op, sources):
        self.name, self._op, self._sources = name, op, sources
    def get_op(self):
        return self._op
    def get_input_layers(self):
        return self._sources
class Network:
    def __init__(self, model):
        fault = "{fault}"
        if fault == "refuse":
            print("E Not match tensor conv2d_1.tmp_0"); raise ValueError("Not match tensor conv2d_1.tmp_0")
        graph = onnx.load(model).graph
        self.fault, self.params, self.layers, made = fault, {}, {}, {}
        self.shapes = [[side.dim_value for side in one.type.tensor_type.shape.dim] for one in graph.output]
        self.counts = {one.name: one.dims[0] for one in graph.initializer if len(one.dims)}
        self.channels = {}
        def add(name, op, sources):
            key = "%s_%d" % (name, len(self.layers))
            self.layers[key] = Layer(name, op, sources)
            return key
        for one in graph.input:
            made[one.name] = add(one.name, "input", [])
        for node in graph.node:
            op = OPS.get(node.op_type, node.op_type.lower())
            key = add(node.output[0], op, [made[name] for name in node.input if name in made])
            if op == "convolution":
                self.channels[key] = self.counts[node.input[1]]
            made[node.output[0]] = key
        if fault == "layer":
            add("made_up", "mystery", [made["image"]])
        for one in graph.output:
            add("attach_%s/out0" % one.name, "output", [made[one.name]])
    def get_layers(self):
        return self.layers
class OnnxLoader:
    def __init__(self, model):
        self.model = model
    def load(self):
        return Network(self.model)
"""
QUANTIZATION = """
import numpy as np
class QuantizerType:
    PERCHANNEL_SYMMETRIC_AFFINE = "perchannel_symmetric_affine"
class Quantization:
    def __init__(self, network):
        self.network = network
    def quantize(self, input_generator_func, quantizer, qtype, iterations):
        (batch,) = input_generator_func()
        assert batch[0].shape == (1, 3, 64, 64) and batch[0].dtype == np.float32
        for key in self.network.layers:
            self.network.params[key + ":out0"] = {"scale": 1.0, "zero_point": 0}
        for key, count in self.network.channels.items():
            for what in ("weight", "bias"):
                self.network.params[key + ":" + what] = {"scale": np.ones(count)}
    def set_quant_params(self, name, given):
        one = self.network.params[name]
        one["scale"] = given["scale"] * (1.25 if self.network.fault in name.split(":") else 1)
        if "zp" in given:
            assert given["quantizer"] == "asymmetric_affine" and given["qtype"] == "int8"
            assert -128 <= given["zp"] <= 127
            one["zero_point"] = given["zp"]
            if self.network.fault == "relu" and self.network.layers[name[:-5]].get_op() == "relu":
                one["scale"] = given["scale"] * 1.01
    def get_quant_params(self, name):
        return self.network.params[name]
"""
INFERENCE = """
import os, signal
import numpy as np
class Inference:
    def __init__(self, network):
        self.network = network
    def build_session(self):
        print("building")
    def run_session(self, inputs):
        print("Process conv2d_0.tmp_0", flush=True)
        fault = self.network.fault
        if fault in ("SIGKILL", "SIGSEGV"):
            os.kill(os.getpid(), getattr(signal, fault))
        value = {"half": 0.37, "nan": float("nan")}.get(fault, 0.0)
        results = [np.full(shape, value, np.float32) for shape in self.network.shapes]
        return inputs, results[1:] if fault == "fewer" else results
"""


def stand_in(folder, fault=""):
    """A program like `python` that has a stand-in of acuity, with a fault."""
    interface = folder / "packages" / "acuitylib" / "interface"
    interface.mkdir(parents=True)
    for name, text in (("importer", IMPORTER), ("quantization", QUANTIZATION), ("inference", INFERENCE)):
        (interface / f"{name}.py").write_text(text.replace("{fault}", fault))
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{folder / "packages"}" exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return OwnTool("acuity", "6.57.1", program, "test")


def made(folder):
    """PicoDet-S-NPU of random weights."""
    model = exported("picodet_s_416_coco_npu.yml", folder / "fp32")
    fold_folder(model.path)
    return NpuSimulation(quick_int8(model, folder / "int8"), RULES)


@pytest.fixture(scope="module")
def simulation(tmp_path_factory):
    return made(tmp_path_factory.mktemp("acuity"))


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(3).rand(2, 3, SIZE, SIZE).astype(np.float32)


def test_its_outputs_are_compared_with_the_simulations(simulation, images, tmp_path):
    """The stand-in gives zeros, so what differs is what is not 0 in the simulation."""
    with AcuityNetwork(simulation, stand_in(tmp_path)) as network:
        found = network({"image": images})
        remark = network.remark
    assert [one.shape for one in found] == [(2, *shape[1:]) for _, shape in network.outputs]
    assert not any(one.any() for one in found)
    values = []
    for image in images:
        held = simulation.run_steps({"image": image[None]})
        values += [held[name] for name, _ in simulation.outputs]
    differing = sum(np.count_nonzero(one) for one in values)
    largest = max(np.abs(one.astype(int)).max() for one in values)
    total = sum(one.size for one in values)
    assert 0 < differing < total and largest > 1
    assert remark == (
        f"{differing:,} of {total:,} values differ from picoquant's simulation with a multiplier of 31 bits, "
        f"by up to {largest} levels"
    )


def test_what_it_is_handed_gives_our_integers_back(simulation):
    """Weights and biases are whole numbers of the steps that are handed over beside them: the network's own."""
    form = make_form(simulation.graph.network, simulation.params)
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in form.model.graph.initializer}
    nodes = {node.output[0]: node for node in form.model.graph.node if node.op_type == "Conv"}
    ours = {one.weight: one for one in simulation.graph.network.operators}
    assert set(nodes) == set(form.weights) and len(nodes) == len(ours) == 122
    for name, (scales, steps) in form.weights.items():
        _, weight, bias = nodes[name].input
        integers = stored[weight] / np.float32(scales).reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(integers, ours[weight].integers, atol=1e-4)
        np.testing.assert_allclose(stored[bias] / np.float32(steps), ours[weight].bias_integers, rtol=1e-6)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("refuse", r"does not take the network: ValueError: Not match tensor conv2d_1\.tmp_0$"),
        (
            "layer",
            "makes a mystery behind image, for which the network has no scale, so it would compute other",
        ),
        (
            "relu",
            r"has changed the scale of \S+ to \S+ from 0, the network's is \S+ from 0, so it would compute",
        ),
        (
            "weight",
            r"has changed the scale of the weight of \S+ to \S+, the network's is [^ ,]+, so it would",
        ),
    ],
)
def test_a_network_that_it_does_not_compute_as_ours(fault, said, simulation, tmp_path):
    with pytest.raises(ToolError, match=f"^acuity 6.57.1 {said}") as error:
        AcuityNetwork(simulation, stand_in(tmp_path, fault)).__enter__()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "SIGKILL",
            r"does not run the network \(SIGKILL.*\): so the system ends what takes more memory than there is",
        ),
        ("SIGSEGV", r"does not run the network \(SIGSEGV.*\): Process conv2d_0\.tmp_0$"),
        (
            "half",
            r"gives \S+ values that are no integers times its scale \(off by 0\.\d\d of it\): it has not",
        ),
        ("nan", r"gives \S+ values that are no integers times its scale \(off by nan of it\): it has not"),
        ("fewer", r"gives outputs \[1, \d+, \d+\], .*, which are not the network's"),
    ],
)
def test_an_image_that_it_does_not_compute(fault, said, simulation, images, tmp_path):
    with (
        AcuityNetwork(simulation, stand_in(tmp_path, fault)) as network,
        pytest.raises(ToolError, match=f"^acuity 6.57.1 {said}") as error,
    ):
        network({"image": images})
    assert "\n" not in str(error.value)


def test_absent_it_is_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("PICOQUANT_ACUITY_PYTHON", raising=False)
    monkeypatch.setattr("picoquant.backends.own_environment.package.tool_homes", lambda name: [tmp_path])
    said = (
        "acuity is not installed: run `picoquant toolchain install acuity --accept-licence`, or name a Python"
    )
    with pytest.raises(ToolError, match=f"^{said}"):
        toolchain.find(Machine())
    check = doctor._acuity()
    assert check.ok and check.found.startswith(f"none, and none is needed but for `eval --acuity`: {said}")


def test_it_is_no_step_of_a_ladder():
    result = CliRunner().invoke(cli, ["eval", "--acuity", "--ladder"])
    assert result.exit_code == 2 and "--acuity is no step of a run: leave --ladder out" in result.output


@pytest.mark.slow
def test_acuity_computes_the_simulations_integers(simulation, images):
    """With a scale for each channel."""
    try:
        tool = toolchain.find(Machine())
    except ToolError as error:
        pytest.skip(str(error))
    with AcuityNetwork(simulation, tool) as network:
        found = network({"image": images})
        assert network.remark.startswith("0 of ")
    for one, own in zip(found, simulation({"image": images})):
        np.testing.assert_array_equal(one, own)
