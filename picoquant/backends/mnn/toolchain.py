"""MNN's Python package: its runtime and its converter."""

from __future__ import annotations

from picoquant.backends.python_package import finder

TITLE = "MNN"
DISTRIBUTIONS = ("MNN",)
VERSIONS = ">=3,<4"  # as the extra `mnn` in setup.cfg

find = finder("MNN", DISTRIBUTIONS, VERSIONS)
