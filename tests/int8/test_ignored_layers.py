"""Layers that stay in float, by name and pattern."""

from __future__ import annotations

import pytest

from picoquant.errors import ConfigError
from picoquant.int8.ignored_layers import choose, layer_names
from picoquant.int8.operators import QuantizableOperator


def operators(*weights):
    return tuple(QuantizableOperator("conv2d", f"out_{i}", "in", w, 0) for i, w in enumerate(weights))


def test_names_and_patterns():
    three = operators("conv2d_0.w_0", "conv2d_1.w_0", "head.w_0", "head.w_0")
    assert layer_names(three) == ("conv2d_0", "conv2d_1", "head@2", "head@3")
    assert choose(["conv2d_1"], three) == (three[1],)
    assert choose(["out_0"], three) == (three[0],)
    assert choose(["head@3"], three) == three[2:]  # the weight is stored once
    assert choose(["conv2d_*"], three) == three[:2]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["conv2d_9"], r"no layer is called conv2d_9; nearest: conv2d_\d, conv2d_\d"),
        (["conv2d_0", "z*"], r"no layer is called z\*"),
        (["*"], r"\* means all 2 layers, so nothing would be INT8"),
    ],
)
def test_patterns_that_make_no_sense(patterns, message):
    with pytest.raises(ConfigError, match=r"Quantize\.keep_float: " + message):
        choose(patterns, operators("conv2d_0.w_0", "conv2d_1.w_0"))
