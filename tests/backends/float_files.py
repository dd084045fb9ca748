"""Float models in a runtime that stores weights in 32 or 16 bits, against Paddle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from picoquant.backends.base import Backend, Exported, Found, Machine, load_backend
from picoquant.backends.source import Source
from tests.networks.quick_int8 import exported


def check_float_and_half(
    backend: Backend, tool: Found, config: str, folder: Path, names: tuple[str, ...] = ()
) -> None:
    """Two images a call: float32 to 1e-4 of the largest value, float16 to 2e-2 and about half the size.

    Args:
        backend: whose export has a keyword `half`.
        tool: its tool.
        config: of a network, which gets random weights.
        folder: where files go.
        names: that the first outputs must have.
    """
    model = exported(config, folder / "fp32")
    feed = {"image": np.random.default_rng(0).random((2, 3, 64, 64), np.float32)}
    paddle = load_backend("paddle").runtime
    files = Exported((model.model, model.params), source=Source(model))
    with paddle.open_files(files, None, Machine(1)) as one:
        expected = one(feed)
    sizes = []
    for half, near in ((False, 1e-4), (True, 2e-2)):
        made = backend.export.export(Source(model), folder / f"m{half}", tool, half=half)
        sizes.append(made.bytes)
        with backend.runtime.open_files(made, tool, Machine(1)) as predict:
            assert tuple(name for name, _ in predict.outputs)[: len(names)] == names
            for value, right in zip(predict(feed), expected):
                np.testing.assert_allclose(value, right, rtol=0, atol=near * np.abs(right).max())
    assert sizes[1] < 0.6 * sizes[0]
