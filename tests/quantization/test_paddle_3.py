"""A program of Paddle 3 quantised: the same INT8 network as of the same network exported by Paddle 2.6."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from picoquant.int8.files import open_network
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.analysis.network import load_float
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.quantize import quantize
from picoquant.quantization.settings import QuantizationSettings
from tests.networks.small_net import CONFIG, batches, settings

PADDLE_3 = Path(__file__).parents[1] / "paddle_program" / "pir" / "small"


def test_its_integers_are_those_of_the_pdmodel(small_model, tmp_path):
    networks = []
    for place, model in enumerate((PADDLE_3, small_model)):
        out = tmp_path / str(place)
        wanted = replace(settings(), quantization=QuantizationSettings(method="ptq"))
        quantize(model, out, tmp_path / f"work{place}", batches, wanted, config=CONFIG)
        assert (out / "model.pdmodel").is_file() and (out / "infer_cfg.yml").is_file()
        networks.append(open_network(ModelFolder.open(out)))
    first, second = ([op for op in network.operators if op.weight] for network in networks)
    assert [op.weight for op in first] == [op.weight for op in second] and len(first) == 5
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one.integers, other.integers)
        np.testing.assert_allclose(one.scales, other.scales, rtol=1e-6)
        scales = [network.tensors[op.activation].params.scale for network, op in zip(networks, (one, other))]
        np.testing.assert_allclose(*scales, rtol=1e-5)


def test_it_is_analysed_as_the_pdmodel_is(small_model, tmp_path):
    found = [
        load_float(
            ModelFolder.open(model, config=CONFIG), tmp_path / name, Convolutions(True), settings().quant
        )
        for name, model in (("json", PADDLE_3), ("pdmodel", small_model))
    ]
    image = {"image": next(batches(1))["image"]}
    results = [network.simulation({})(image) for network in found]
    assert [layer.name for layer in found[0].layers] == [layer.name for layer in found[1].layers]
    for first, second in zip(*results):
        np.testing.assert_allclose(first, second, atol=1e-5)
