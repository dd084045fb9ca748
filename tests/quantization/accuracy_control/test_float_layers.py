"""Layers in float of the small network: stem, depthwise, pointwise and two heads, all `conv2d` or depthwise."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.int8.operators import quantizable_operators
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.accuracy_control.float_layers import (
    float_outputs,
    int8_runs,
    names_by_output,
    original_params,
)


@pytest.fixture
def network(small_model):
    model = ProgramModel.load(small_model)
    return model.graph(), quantizable_operators(model, QuantAwareSettings())


def test_layers_in_float_split_the_operators_in_the_programs_order(network):
    graph, operators = network
    outputs = [operator.output for operator in operators]
    assert [int8_runs(graph, outputs[:count]) for count in range(3)] == [
        1,
        1,
        2,
    ]  # the first one has none before
    assert int8_runs(graph, [outputs[2]]) == 2


def test_what_is_not_in_int8_is_in_float(network):
    graph, operators = network
    outputs = [operator.output for operator in operators]
    types = ("conv2d", "depthwise_conv2d")
    assert float_outputs(graph, types, outputs) == set()
    assert float_outputs(graph, types, outputs[1:]) == {outputs[0]}
    assert float_outputs(graph, ("depthwise_conv2d",), ()) == {outputs[1]}
    assert names_by_output(operators)[outputs[1]] == "conv2d_1"


def test_original_parameters_are_those_that_were_changed(network):
    graph, operators = network
    value = np.ones(2, np.float32)
    found = original_params(graph, operators, {operators[1].weight: value})
    assert list(found) == [operator.output for operator in operators]
    assert found[operators[1].output] == {operators[1].weight: value}
    assert all(not found[operator.output] for operator in operators if operator is not operators[1])
