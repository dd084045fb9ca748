"""Ranges of products moved off ties; the arithmetic is tested in `tests/int8/passes/test_tie_avoidance.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.int8.passes.activations import TargetTensors
from picoquant.int8.passes.tie_avoidance import Product
from picoquant.quantization.ptq.passes.avoid_ties import avoid_ties
from picoquant.quantization.ptq.pipeline import run_passes


def test_a_product_leaves_the_ties_and_its_group_follows(small_state):
    # With 4 * 4 / 127 / 16 = 1 / 127 * 127 levels the factor would be 1 / 127: 63.5 products are half-way.
    ranges = {"a": 4.0, "b": 4.0, "product": 16.0, "copy": 16.0, "other": 5.0}
    tensors = TargetTensors(tuple(ranges), (("a",), ("b",), ("product", "copy"), ("other",)), {})
    state = replace(small_state(), ranges=ranges, tensors=tensors, products=(Product("product", ("a", "b")),))
    found = run_passes((avoid_ties,), state).ranges
    assert found["product"] == found["copy"] == pytest.approx(16.0, rel=1 / 1300)
    assert {name: found[name] for name in ("a", "b", "other")} == {"a": 4.0, "b": 4.0, "other": 5.0}
    factor = (found["a"] / 127) * (found["b"] / 127) / (found["product"] / 127)
    products = np.arange(-(127**2), 127**2 + 1)
    distance = np.abs((products * factor) % 1 - 0.5)
    assert distance.min() > 1e-4  # float32 loses 127 * 6e-8 at most
