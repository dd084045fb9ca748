"""Networks with chosen tensors and weights rounded, run for values."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import PicoquantError
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.simulation import Rounding, Simulation
from tests.networks.small_net import batches

FEED = {"image": next(batches(1))["image"]}


@pytest.fixture
def model(small_model):
    return ProgramModel.load(small_model)


def test_convolutions_take_the_weights_of_each_network(model):
    """One graph of oneDNN's is traced for a kind of convolution; the weights are those of whoever calls it."""
    convolutions, random = Convolutions(onednn=True), np.random.RandomState(0)
    names = [name for name, value in model.values.items() if value.ndim == 4]
    for _ in range(3):
        fast, plain = (Simulation(model, {}, convolutions=one)(FEED) for one in (convolutions, None))
        for got, expected in zip(fast, plain):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
        for name in names:
            model.write(name, random.randn(*model.values[name].shape))


def test_a_simulation_keeps_the_model_of_its_time(model):
    simulation = Simulation(model, {})
    before = simulation(FEED)[1]
    name = next(name for name, value in model.values.items() if value.ndim == 4)
    model.write(name, 0 * model.values[name])
    np.testing.assert_array_equal(simulation(FEED)[1], before)
    assert np.abs(Simulation(model, {})(FEED)[1] - before).max() > 0.01


def test_inputs_that_are_not_needed_are_not_asked_for(model):
    assert Simulation(model, {}).input_names == ("image",)
    relu = next(op for op in model.operators if op.type == "relu6").results[0]
    (value,) = Simulation(model, {relu: QuantParams.symmetric(6.0)}, outputs=[relu])(FEED)
    np.testing.assert_allclose(value / (6 / 127), np.rint(value / (6 / 127)), atol=1e-4)
    with pytest.raises(PicoquantError, match="no tensor nothing"):
        Simulation(model, {}, outputs=["nothing"])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        # Steps of 0.5 from -63.5 to 63.5; then of 0.25 from -1 (zero point 4) to 62.75.
        (QuantParams.symmetric(63.5), [-63.5, -1.0, 0.0, 0.5, 63.5]),
        (QuantParams.asymmetric(-1.0, 62.75), [-1.0, -1.0, 0.0, 0.25, 62.75]),
    ],
)
def test_values_are_rounded_to_the_integers_of_a_range(params, expected):
    import paddle

    values = np.float32([-70, -1.1, 0.1, 0.3, 70])
    np.testing.assert_allclose(Rounding(params)(paddle.to_tensor(values)).numpy(), expected, atol=1e-6)
