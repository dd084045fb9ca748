"""States of small networks before each pass."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.export.paddle_export import write_layer
from picoquant.quantization.engine.simulation import Simulation
from tests.quantization.ptq.equalisation.test_equalise import Uneven
from tests.quantization.ptq.states import context_of, load_state


@pytest.fixture
def small_state(small_model, tmp_path):
    """`small_state(**settings)`: the small network (three batch-norms, five convolutions) before the first pass."""
    yield lambda quant=None, **own: load_state(context_of(small_model, tmp_path, quant=quant, **own))


UNEVEN_FEED = {"image": np.random.RandomState(1).rand(2, 3, 8, 8).astype("float32")}


@pytest.fixture
def uneven_state(tmp_path):
    """`uneven_state(activation, between, **settings)`: a network whose channels are thousands apart."""
    model = tmp_path / "exported"

    def make(activation, between, quant=None, **own):
        with paddle.utils.unique_name.guard():
            network = Uneven(activation, between)
            network.eval()
            spec = [paddle.static.InputSpec([-1, 3, 8, 8], "float32", "image")]
            write_layer(network, spec, model)
        context = context_of(model, tmp_path, lambda: iter([UNEVEN_FEED]), quant, **own)
        return load_state(context)

    yield make


@pytest.fixture
def values_of():
    """`values_of(state, names, feed)`: tensors of the float network by name; its outputs for no names."""

    def run(state, names, feed):
        found = Simulation(state.model, {}, None, names or None, state.context.convolutions)(feed)
        return dict(zip(names, found)) if names else found

    return run
