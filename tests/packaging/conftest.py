"""The small INT8 model, made once."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A `ModelFolder`: the INT8 network of `small_int8`."""
    from tests.packaging.small_int8 import write_small

    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def taken_apart(small):
    """Its program for one image, its stored values, and what `read_quantised` makes of them."""
    from picoquant.int8.paddle_reader import read_quantised
    from picoquant.paddle_program.edit import batch_of_one
    from picoquant.paddle_program.params import read_params

    program = batch_of_one(small.model, (32, 32))
    params = read_params(program, small.params)
    return program, params, read_quantised(program, params, small.model)
