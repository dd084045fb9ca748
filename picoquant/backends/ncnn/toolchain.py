"""ncnn's Python package, which holds its runtime."""

from __future__ import annotations

from picoquant.backends.python_package import finder

TITLE = "ncnn"
DISTRIBUTIONS = ("ncnn",)
VERSIONS = ">=1.0.20260101"  # as the extra `ncnn` in setup.cfg

find = finder("ncnn", DISTRIBUTIONS, VERSIONS)
