"""What is computed behind a run of Paddle's inference runtime has as many threads as before it."""

from __future__ import annotations

import numpy as np
import pytest
from paddle.base import core

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.export import ModelFolder
from picoquant.training.fast import openmp
from tests.networks.small_net import CONFIG


@pytest.fixture
def two_threads():
    if openmp() is None:
        pytest.skip("Paddle's OpenMP is found on Linux only")
    before = openmp().omp_get_max_threads()
    core.set_num_threads(2)
    yield
    core.set_num_threads(before)


def test_a_run_leaves_the_number_of_threads(small_model, two_threads):
    predictor = open_predictor(ModelFolder.open(small_model, config=CONFIG), threads=3)
    predictor({name: np.zeros((1, 3, 32, 32), np.float32) for name in predictor.input_names})
    assert openmp().omp_get_max_threads() == 2
