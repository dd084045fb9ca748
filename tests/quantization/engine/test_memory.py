"""How many images a step may have in the memory that is free."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from picoquant.paddle_program.graph import Operator
from picoquant.quantization.engine import feeds
from picoquant.quantization.qat import pipeline

FREE_FOR_10 = 10 * 305 * feeds._BYTES_A_VALUE


@pytest.fixture
def graph():
    """Two activations of 3 x 10 x 10 and 5 numbers an image: 305 values."""
    shapes = {"image": (-1, 3, 10, 10), "a": (-1, 3, 10, 10), "b": (-1, 5)}
    operators = [
        Operator("a", "relu", (("X", "image"),), (("Out", "a"),), {}),
        Operator("b", "fc", (("X", "a"),), (("Out", "b"),), {}),
    ]
    tensors = {name: SimpleNamespace(shape=shape, stored=False) for name, shape in shapes.items()}
    return SimpleNamespace(
        operators=operators, tensor=tensors.__getitem__, is_activation=lambda name: not tensors[name].stored
    )


@pytest.mark.parametrize(("free", "images"), [(FREE_FOR_10, 10), (FREE_FOR_10 - 1, 9), (0, 0)])
def test_images_that_fit(graph, free, images):
    assert feeds.images_that_fit(graph, free) == images


@pytest.mark.parametrize(
    ("fit", "images", "said"), [(3, 8, "Calibration.batch_size=3,"), (8, 8, ""), (None, 8, "")]
)
def test_a_step_that_does_not_fit_is_said_before_it_starts(monkeypatch, caplog, fit, images, said):
    monkeypatch.setattr(pipeline, "free_memory", lambda: None if fit is None else 1 << 30)
    monkeypatch.setattr(pipeline, "images_that_fit", lambda graph, free: fit)
    caplog.set_level(logging.WARNING)
    pipeline._warn_of_memory(SimpleNamespace(graph=None), images)
    assert said in caplog.text and bool(caplog.text) == bool(said)
