"""OpenVINO's Python package, which holds its runtime, too."""

from __future__ import annotations

from picoquant.backends.python_package import finder

TITLE = "OpenVINO"
DISTRIBUTIONS = ("openvino",)
VERSIONS = ">=2024.6"  # as the extra `openvino` in setup.cfg

find = finder("openvino", DISTRIBUTIONS, VERSIONS)
