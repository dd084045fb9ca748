"""What opt makes of the integer form is what it makes of the program itself, but for the biases' place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.backends.paddle_lite.export import make_nb
from picoquant.backends.paddle_lite.integer_form import integer_form, saturates_at
from picoquant.backends.paddle_lite.report import read_partitioned
from picoquant.backends.placement import CPU, NPU
from picoquant.int8.paddle.form import files_without_rounding
from picoquant.int8.paddle.reader import read_network
from picoquant.paddle_program.edit import batch_of_one, smaller_for_opt, write_program
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params, write_params
from picoquant.paddle_program.program import read_program
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported, quick_int8
from tests.npu.test_check import FAMILIES

PLACES = "verisilicon_timvx,arm"


@pytest.fixture(scope="module")
def bccd(shared, tmp_path_factory):
    """PicoDet-S-NPU with the blood cell weights, batch-norm folded, INT8 by the ranges of one batch."""
    import picoquant
    from picoquant.detector.weights import load_weights
    from picoquant.export.paddle_export import export_model

    folder = tmp_path_factory.mktemp("bccd")
    model = picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    load_weights(model, shared / "weights" / "picodet_s_npu_bccd.pdparams")
    model.eval()
    config = InferConfig((64, 64), ("Platelets", "RBC", "WBC"), strides=tuple(model.strides))
    return quick_int8(folded(export_model(model, folder / "fp32", "raw", (64, 64), config)), folder / "int8")


def folded(model):
    from picoquant.paddle_program.batch_norm_folding import fold_folder

    fold_folder(model.path)
    return model


def by_opt(opt, program, params, folder):
    """Operators of the NPU by the result they end in, and the stored values."""
    folder.mkdir()
    write_program(smaller_for_opt(program), folder / "model")
    opt.run(folder / "model", params, folder / "made", PLACES, "protobuf")
    split = read_partitioned(folder / "made", {})
    assert len(split.subgraphs) == 1 and len(split.at(NPU)) > 10
    values = read_params(read_program(folder / "made" / "model"), folder / "made" / "params")
    return {op.name: op for op in split.at(NPU)}, values, split


def apart(model: ModelFolder):
    program = batch_of_one(model.model, model.config.input_size)
    values = read_params(program, model.params)
    return program, values, read_network(program, values, model.model)


def both(model: ModelFolder, opt, folder):
    program, values, network = apart(model)
    plain = files_without_rounding(program, model.params, folder / "values")
    made = integer_form(program, values, network)
    write_params(*made, folder / "params")
    return (
        by_opt(opt, *plain, folder / "plain"),
        by_opt(opt, made[0], folder / "params", folder / "integer"),
    )


def test_same_network_with_the_biases_inside(bccd, opt, tmp_path):
    (plain, values, before), (integer, made, after) = both(bccd, opt, tmp_path)
    # Every convolution has a bias; each of 12 outputs had a reshape and a transpose behind its map.
    assert len(plain) - len(integer) == 122 + 2 * 12
    assert before.inputs == after.inputs and len(before.outputs) == len(after.outputs) == 12
    for output, ends in zip(before.outputs, after.outputs):
        _, cells, channels = before.tensors[output].shape
        assert after.tensors[ends].shape[:2] == (1, channels)
        assert np.prod(after.tensors[ends].shape[2:]) == cells
    assert len(before.at("conversion")) == len(after.at("conversion")) == 13
    for name, op in integer.items():
        inputs, attributes, other = dict(op.inputs), dict(op.attributes), plain[name]
        bias = inputs.pop("Bias0", None)
        if bias is not None:
            # The addition gave this result: its convolution, its stored bias, its scale.
            sum_of = dict(other.inputs)
            assert other.op_type == "elementwise_add" and sum_of["Y0"] == bias
            assert made[bias].ravel().tolist() == values[bias].ravel().tolist()
            assert made[bias].shape == made[inputs["Filter0"]].shape[:1]
            assert attributes.pop("Output0_scale") == other.attributes["Out0_scale"]
            other = plain[sum_of["X0"]]
        known = {key: value for key, value in other.attributes.items() if key != "out_threshold"}
        if bias is not None:
            known.pop("Output0_scale")
        attributes.pop("out_threshold", None)
        kind = other.op_type
        if kind == "relu6":  # its range ends at 6 or below, where INT8 saturates
            assert known.pop("threshold") == 6.0 and known["Out0_scale"][0] * 127 < 6.0 * (1 + 1 / 254)
            kind = "relu"
        assert (op.op_type, inputs, attributes) == (kind, dict(other.inputs), known)
        weight = inputs.get("Filter0")
        if weight is not None:
            assert made[weight].dtype == values[weight].dtype == "int8"
            assert (made[weight] == values[weight]).all()


def test_what_else_takes_a_bias_or_a_result_keeps_it(bccd):
    program, values, _ = apart(bccd)
    adds = [op for op in program.blocks[0].ops if op.type == "elementwise_add"]
    first, second = (next(s for s in op.inputs if s.parameter == "Y").arguments for op in adds[:2])
    second[0] = first[0]  # one bias for two
    program.blocks[0].ops.add(type="relu6").inputs.add(parameter="X", arguments=[_x(adds[2])])
    made, _ = integer_form(program, values, read_network(program, values, bccd.model))
    left = [op for op in made.blocks[0].ops if op.type == "elementwise_add"]
    assert [_x(op) for op in left[:3]] == [_x(op) for op in adds[:3]]
    assert len(left) == 3 + 1  # and the one of two computed tensors


def test_a_limit_below_the_range_stays(bccd):
    """A ReLU6 is one of its own only where its tensor shares a scale that reaches beyond 6."""
    program, values, network = apart(bccd)
    name = next(op.name for op in network.graph.operators if op.op_type == "relu6")
    tensors = dict(network.tensors)
    tensors[name] = replace(tensors[name], params=replace(tensors[name].params, scale=6.2 / 127))
    made, _ = integer_form(program, values, replace(network, tensors=tensors))
    assert [op.type for op in made.blocks[0].ops].count("relu6") == 1
    assert saturates_at(replace(tensors[name].params, scale=6.02 / 127), 6.0)


def test_left_to_opt_where_batch_norms_are(taken_apart):
    assert integer_form(*taken_apart) is None


def _x(op):
    return next(slot for slot in op.inputs if slot.parameter == "X").arguments[0]


def test_nb_of_picodet_s_npu_is_under_its_limit(bccd, opt, tmp_path):
    program, _, network = apart(bccd)
    make_nb(program, bccd.params, tmp_path / "model.nb", load_target("rv1126"), opt, network)
    size = (tmp_path / "model.nb").stat().st_size
    assert 1_100_000 < size < 1_700_000  # the INT8 weights alone are 1.10 MB
    data = (tmp_path / "model.nb").read_bytes()
    assert b"batch_norm\0" not in data and data.count(b"\x08\0\0\0subgraph") == 1


@pytest.mark.slow
@pytest.mark.parametrize("config", [name for name in FAMILIES if "npu" not in name])
def test_every_family_stays_one_piece(config, opt, tmp_path):
    model = quick_int8(folded(exported(config, tmp_path / "fp32")), tmp_path / "int8")
    (plain, _, before), (integer, _, after) = both(model, opt, tmp_path)
    assert len(plain) - len(integer) >= 80 and not after.at(CPU)
    assert len(before.at("conversion")) == len(after.at("conversion"))
    assert all(len(after.tensors[name].shape) == 4 for name in after.outputs)
    for op in after.at(NPU):
        if "Output0_scale" in op.attributes:
            other = plain[op.name].attributes
            assert op.scale("Output0") == (other.get("Out0_scale") or other["Output0_scale"])
