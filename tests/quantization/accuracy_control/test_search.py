"""The fewest ranked layers in float: which numbers are tried, and what a candidate is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from picoquant.int8.build import Int8Source
from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.accuracy_control.ranker import group_by_weight
from picoquant.quantization.accuracy_control.search import Candidates, Goal, fewest_in_float


def operators(*weights):
    return tuple(QuantizableOperator("conv2d", f"out_{i}", "in", w, 0) for i, w in enumerate(weights))


@pytest.mark.parametrize("least", [1, 2, 3, 5, 8, 9, 12, 13])
def test_the_fewest_are_found(least):
    found, trials = fewest_in_float(12, 0.5, lambda count: 0.6 if count >= least else 0.4)
    assert found == (least if least <= 12 else None)
    tried = [trial.layers for trial in trials]
    assert len(tried) == len(set(tried)) <= 8 and all(1 <= count <= 12 for count in tried)


def test_operators_that_share_a_weight_are_ranked_together():
    first, second, third, fourth = operators("a", "b", "a", "c")
    groups = group_by_weight([(second, 3.0), (third, 5.0), (first, 8.0), (fourth, 9.0)])
    # `third` is the worse of the two with the weight `a`; both go to float at its place.
    assert [[operator.output for operator in group.operators] for group in groups] == [
        ["out_1"],
        ["out_2", "out_0"],
        ["out_3"],
    ]
    assert [group.alone_db for group in groups] == [3.0, 5.0, 9.0]


def test_a_candidate_has_the_original_parameters_of_its_float_layers():
    first, second = operators("a", "b")
    trained = {"a": np.array([1.0]), "b": np.array([2.0])}
    source = Int8Source(Path("model"), trained, {}, (first, second), QuantAwareSettings())
    order = group_by_weight([(second, 3.0), (first, 8.0)])
    originals = {"out_1": {"b": np.array([2.5]), "bias": np.array([0.5])}, "out_0": {}}
    candidates = Candidates(source, order, originals)
    assert candidates.with_float(0) == source
    one = candidates.with_float(1)
    assert one.operators == (first,) and one.ignored == {"out_1"}
    assert {name: value.item() for name, value in one.weights.items()} == {"a": 1.0, "b": 2.5, "bias": 0.5}
    assert trained["b"].item() == 2.0  # the source stays as it is


def test_the_goal_is_counted_from_fp32():
    assert Goal(max_drop=0.25, fp32=0.75, int8=0.4).needed == 0.5
