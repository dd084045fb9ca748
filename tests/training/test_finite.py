"""Which layer's result is the first that is no finite number."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.training.fast import FastLayers, fast_convolutions_available
from picoquant.training.finite import first_not_finite
from tests.networks.exported import make_detector

IMAGES = np.random.RandomState(0).rand(1, 3, 64, 64).astype(np.float32)


@pytest.fixture
def model():
    model = make_detector(5)
    model.train()
    return model


def test_a_sound_network_and_sound_images_have_none(model):
    assert first_not_finite(model, paddle.to_tensor(IMAGES)) is None


def test_images_and_weights_come_first(model):
    images = IMAGES.copy()
    images[0, 1, 2, 3] = np.nan
    assert first_not_finite(model, paddle.to_tensor(images)) == "the images"
    name, weight = [pair for pair in model.named_parameters() if not pair[1].stop_gradient][7]
    weight.set_value(weight * float("inf"))
    assert first_not_finite(model, paddle.to_tensor(IMAGES)) == f"the weights {name}"


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_layer_whose_result_overflows_is_named(model, fast):
    if fast and not fast_convolutions_available():
        pytest.skip("this paddle has no oneDNN, which FastLayers needs")
    names = [name for name, layer in model.named_sublayers() if isinstance(layer, paddle.nn.Conv2D)]
    layer = dict(model.named_sublayers())[names[5]]
    layer.weight.set_value(paddle.full_like(layer.weight, 3e38))
    images = paddle.to_tensor(1e3 + IMAGES)
    if not fast:
        assert first_not_finite(model, images) == f"the result of layer {names[5]}"
        return
    layers = FastLayers(model)
    with layers.on():
        model.predicted(images)
        with layers.off():
            assert first_not_finite(model, images) == f"the result of layer {names[5]}"
        assert "predicted" in vars(model)  # traced again
    assert "predicted" not in vars(model)
