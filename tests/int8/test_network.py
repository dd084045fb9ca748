"""One INT8 network: what quantisation builds is what is saved, and what is read from the Paddle files."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest

from picoquant.errors import WeightsError
from picoquant.int8.build import Int8Source, build_network, folded
from picoquant.int8.files import FILE, open_network, save_network
from picoquant.int8.network import Int8Network
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.paddle.writer import write_lite_model
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.model_folder import MODEL, ModelFolder
from tests.networks.ranges import measured_ranges
from tests.networks.small_net import CONFIG, batches, export_small


def source_of(folder, fold: bool, **scheme) -> Int8Source:
    export_small(folder)
    settings = QuantAwareSettings(**scheme)
    if fold:
        fold_folder(folder)
    model = ProgramModel.load(folder)
    ranges = measured_ranges(model, next(batches(1)))
    operators = quantizable_operators(model, settings)
    return Int8Source(folder, {}, ranges, operators, settings)


def assert_same(found: Int8Network, expected: Int8Network) -> None:
    assert list(found.tensors) == list(expected.tensors)
    for name, tensor in expected.tensors.items():
        other = found.tensors[name]
        assert replace(other, params=None) == replace(tensor, params=None), name
        assert other.params.scale == pytest.approx(tensor.params.scale, rel=1e-12), name
        assert (other.params.zero_point, other.params.bits) == (0, 8)
    assert len(found.operators) == len(expected.operators)
    for one, other in zip(found.operators, expected.operators):
        assert (one.op_type, one.output, one.activation, one.weight, one.bias) == (
            other.op_type, other.output, other.activation, other.weight, other.bias,
        )  # fmt: skip
        np.testing.assert_array_equal(one.integers, other.integers)
        np.testing.assert_array_equal(one.bias_integers, other.bias_integers)
        np.testing.assert_allclose(one.scales, other.scales, rtol=1e-6)
        np.testing.assert_allclose(found.values[one.weight], expected.values[one.weight], rtol=1e-6)


@pytest.mark.parametrize("scheme", [{}, {"weight_quantize_type": "abs_max"}], ids=["channel", "tensor"])
def test_built_saved_and_read_are_one(tmp_path, scheme):
    network = build_network(source_of(tmp_path / "fp32", True, **scheme))
    write_lite_model(network, tmp_path / "int8")
    folder = ModelFolder.open(tmp_path / "int8", config=CONFIG)
    assert_same(open_network(folder), network)  # read from the Paddle program
    save_network(network, folder)
    loaded = open_network(folder)
    assert_same(loaded, network)
    assert loaded.float_params.keys() == network.float_params.keys() != set()
    assert [op.name for op in loaded.graph.operators] == [op.name for op in network.graph.operators]
    assert network.per_channel is (not scheme)


def test_the_same_network_is_saved_as_the_same_bytes(tmp_path):
    network = build_network(source_of(tmp_path / "fp32", True))
    write_lite_model(network, tmp_path / "int8")
    folder = ModelFolder.open(tmp_path / "int8", config=CONFIG)
    save_network(network, folder)
    before = (tmp_path / "int8" / FILE).read_bytes()
    save_network(open_network(folder), folder)
    assert (tmp_path / "int8" / FILE).read_bytes() == before


@pytest.mark.parametrize("spoil", ["another model", "damaged", "empty", "version"])
def test_a_file_that_does_not_belong_to_the_model_does_not_count(tmp_path, spoil, caplog):
    """The model's own files are read then; nothing of the stale file is used."""
    source = source_of(tmp_path / "fp32", True)
    network = build_network(source)
    write_lite_model(network, tmp_path / "int8")
    folder = ModelFolder.open(tmp_path / "int8", config=CONFIG)
    save_network(network, folder)
    path = tmp_path / "int8" / FILE
    if spoil == "another model":
        doubled = replace(source, ranges={name: 2 * top for name, top in source.ranges.items()})
        network = build_network(doubled)
        write_lite_model(network, tmp_path / "int8")
    elif spoil == "damaged":
        path.write_bytes(path.read_bytes()[:-2000])
    elif spoil == "empty":
        path.write_bytes(b"")
    else:
        stored = dict(np.load(path))
        facts = stored["facts"].tobytes().replace(b'"version": 1', b'"version": 9')
        np.savez(path, **{**stored, "facts": np.frombuffer(facts, np.uint8)})
    with caplog.at_level(logging.INFO, logger="picoquant"):
        assert_same(open_network(folder), network)
    assert "does not belong to model.pdmodel" in caplog.text


def test_batch_norms_that_were_not_folded_are_folded_for_targets(tmp_path):
    network = build_network(source_of(tmp_path / "fp32", False))
    assert any(op.op_type == "batch_norm" for op in network.graph.operators)
    plain = folded(network)
    assert not any(op.op_type == "batch_norm" for op in plain.graph.operators)
    assert all(operator.bias_integers is not None for operator in plain.operators)
    assert folded(plain) is plain
    write_lite_model(network, tmp_path / "int8")  # the program that Paddle and opt get keeps them
    assert b"batch_norm" in (tmp_path / "int8" / MODEL).read_bytes()
    assert_same(open_network(ModelFolder.open(tmp_path / "int8", config=CONFIG)), plain)


def test_tensors_know_their_owner_and_what_they_are_fused_into(tmp_path):
    network = build_network(source_of(tmp_path / "fp32", True))
    stem = network.layers[network.operators[0].output]
    assert [op.op_type for op in stem.fused] == ["elementwise_add", "relu6"]
    assert stem.inner == (stem.conv.name, stem.fused[0].name)
    assert all(network.tensors[name].fused_into == stem.output for name in stem.inner)
    assert network.tensors[stem.output].non_negative and not network.tensors["image"].non_negative
    assert set(stem.inner).isdisjoint(network.held)
    for group in network.groups:
        assert {network.tensors[name].owner for name in group} == {group[0]}
    assert network.operator_inputs <= set(network.held)


def test_for_one_image(tmp_path):
    network = build_network(source_of(tmp_path / "fp32", True))
    assert network.graph.tensor("image").shape[0] == -1
    single = network.for_one_image((32, 32), "small")
    assert single.graph.tensor("image").shape == (1, 3, 32, 32)
    assert all(-1 not in (single.graph.tensor(name).shape or ()) for name in single.held)
    assert network.graph.tensor("image").shape[0] == -1


@pytest.mark.filterwarnings("error")
def test_tensors_that_are_zero_throughout_have_a_range(tmp_path):
    source = source_of(tmp_path / "fp32", True)
    silent = {
        name: 0.0 if name == source.operators[1].activation else value
        for name, value in source.ranges.items()
    }
    network = build_network(replace(source, ranges=silent))
    assert network.ranges[source.operators[1].activation] == 1.0
    for operator in network.operators:
        assert (operator.scales > 0).all() and np.isfinite(operator.scales).all()
        assert operator.bias_integers is None or np.abs(operator.bias_integers).max() < 2**31


def test_a_float_model_is_no_int8_network(tmp_path):
    export_small(tmp_path / "fp32")
    with pytest.raises(WeightsError, match="is a float model; a package needs an INT8 one"):
        open_network(ModelFolder.open(tmp_path / "fp32", config=CONFIG))


def test_a_saved_file_of_one_model_is_not_taken_by_a_copy_of_another(tmp_path):
    source = source_of(tmp_path / "fp32", True)
    for name, factor in (("a", 1.0), ("b", 3.0)):
        ranges = {tensor: factor * top for tensor, top in source.ranges.items()}
        network = build_network(replace(source, ranges=ranges))
        write_lite_model(network, tmp_path / name)
        save_network(network, ModelFolder.open(tmp_path / name, config=CONFIG))
    shutil.copyfile(tmp_path / "a" / FILE, tmp_path / "b" / FILE)
    found = open_network(ModelFolder.open(tmp_path / "b", config=CONFIG))
    assert found.ranges["image"] == pytest.approx(3 * source.ranges["image"], rel=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
def test_quant_params_by_hand(bits):
    largest = 2 ** (bits - 1) - 1
    symmetric = QuantParams.symmetric(2.0, bits)
    assert (symmetric.qmin, symmetric.qmax, symmetric.zero_point) == (-largest, largest, 0)
    assert symmetric.scale == 2.0 / largest and symmetric.absmax == pytest.approx(2.0)
    # 0 is an integer: -0.5 is 0.5 / 2.5 = a fifth of the way.
    skew = QuantParams.asymmetric(-0.5, 2.0, bits)
    assert (skew.qmin, skew.qmax, skew.zero_point) == (0, 2**bits - 1, round((2**bits - 1) / 5))
    assert skew.fake_quantise(np.array([0.0, 9.0, -9.0])) == pytest.approx([0.0, 2.0, -0.5])
    value = np.linspace(-0.5, 2.0, 101)
    assert np.abs(skew.fake_quantise(value) - value).max() <= 0.51 * skew.scale
    integers = skew.quantise(value)
    assert integers.min() == 0 and integers.max() == 2**bits - 1
    # Only positive values: all steps above zero.
    assert QuantParams.asymmetric(1.0, 3.0, bits).zero_point == 0
    assert QuantParams.asymmetric(-1.0, 1.0, bits).is_symmetric


def test_quant_params_along_an_axis():
    params = QuantParams.symmetric(np.array([1.27, 12.7]), axis=1)
    value = np.array([[0.5, 0.5], [2.0, -7.04]])
    assert params.quantise(value).tolist() == [[50, 5], [127, -70]]
    np.testing.assert_allclose(params.fake_quantise(value), [[0.5, 0.5], [1.27, -7.0]])
