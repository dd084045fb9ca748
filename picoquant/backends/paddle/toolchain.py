"""PaddlePaddle, which picoquant itself is built on."""

from __future__ import annotations

from picoquant.backends.python_package import finder

TITLE = "PaddlePaddle"
DISTRIBUTIONS = ("paddlepaddle", "paddlepaddle-gpu")

find = finder("paddle", DISTRIBUTIONS)
