"""Programs of Paddle 3, made by `make.py` there, read and run on the Paddle at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.export import ModelFolder
from picoquant.paddle_program.graph import read_graph
from picoquant.paddle_program.params import read_params, stored_variables
from picoquant.paddle_program.pir.rules import RULES, Constant
from picoquant.paddle_program.program import (
    complete_program,
    copy_program,
    program_facts,
    read_program,
)
from tests.networks.small_net import CONFIG

HERE = Path(__file__).parent


def values(name):
    with np.load(HERE / name / "outputs.npz") as file:
        return file["arr_0"], [file[f"arr_{place}"] for place in range(1, len(file.files))]


# Written for every operator, or without effect on what it computes.
_SKIPPED = {
    "op_callstack",
    "op_device",
    "op_namescope",
    "op_role",
    "op_role_var",
    "with_quant_attr",
    "use_cudnn",
}


def test_the_network_is_the_one_that_paddle_2_6_writes(small_model):
    """The same operators with the same attributes in the same order, but for the `scale` at each output's end."""
    complete_program(small_model / "model.pdmodel")
    files = HERE / "small" / "inference.json", small_model / "model.pdmodel"
    theirs, ours = (read_graph(read_program(path)) for path in files)
    kept = [op for op in ours.operators if op.op_type != "scale"]
    assert [op.op_type for op in theirs.operators] == [op.op_type for op in kept]
    for mine, own in zip(theirs.operators, kept):
        attributes, wanted = (
            {name: value for name, value in op.attributes.items() if name not in _SKIPPED}
            for op in (mine, own)
        )
        assert attributes == wanted, own.name
        shapes = [
            [graph.tensor(name).shape for name in op.results] for graph, op in ((theirs, mine), (ours, own))
        ]
        assert shapes[0] == shapes[1], own.name
    weights = [read_params(read_program(path), path.with_suffix(".pdiparams")) for path in files]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name])


@pytest.mark.parametrize("name", ["small", "operators"])
def test_it_computes_what_paddle_3_computes(name):
    folder = ModelFolder.open(
        HERE / name, config=None if name == "small" else CONFIG, compare=name == "small"
    )
    assert folder.model.name == "inference.json" and folder.params.name == "inference.pdiparams"
    predict = open_predictor(folder, threads=1)
    image, wanted = values(name)
    given = predict({"image": image})
    assert len(given) == len(wanted) == len(program_facts(folder.model).outputs)
    for place, (mine, own) in enumerate(zip(given, wanted)):
        np.testing.assert_allclose(mine, own, rtol=1e-4, atol=1e-5, err_msg=f"{name} output {place}")


def test_the_description_is_read_from_inference_yml():
    config = ModelFolder.open(HERE / "small").config
    assert (
        config.input_size == (32, 32)
        and config.labels == ("ball", "box")
        and config.std == (0.229, 0.224, 0.225)
    )


def test_what_only_tracing_computed_is_left_out():
    """The shapes that `reshape` takes are constants, so what computed them has no use."""
    operators = program_facts(HERE / "operators" / "inference.json").operators
    assert "shape" not in operators and operators.count("reshape2") >= 2


def test_a_copy_is_a_pdmodel_of_the_same_bytes_each_time(tmp_path):
    for name in ("a", "b"):
        copy_program(HERE / "small" / "inference.json", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again, program = read_program(tmp_path / "a"), read_program(HERE / "small" / "inference.json")
    assert again == program and stored_variables(again) == sorted(stored_variables(again))


@pytest.mark.parametrize("name", RULES)
def test_slots_and_attributes_are_those_of_the_older_operator(name):
    from paddle.base.framework import OpProtoHolder

    rule = RULES[name]
    known = OpProtoHolder.instance().get_op_proto(rule.type)
    slots = {slot.name for slot in known.inputs}
    tensors = {
        operand.tensor if isinstance(operand, Constant) else operand.name for operand in rule.operands
    } - {""}
    assert tensors <= slots
    assert {*rule.outputs, rule.shape_output} - {""} <= {slot.name for slot in known.outputs}
    written = {rule.renamed.get(one, one) for one in rule.attributes} | set(rule.fixed)
    written |= {operand.attribute for operand in rule.operands if isinstance(operand, Constant)}
    extra = {"threshold", "beta", "is_test"}  # defaults that Paddle 2.6 does not list, and `opt` wants
    assert written - extra <= {attribute.name for attribute in known.attrs}
